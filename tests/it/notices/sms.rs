//! SMS by its three ways, and Telegram: a gateway and a Bot API that the test plays, a message centre over other people's
//! PDUs (PyPI smpplib), and the tables of smsd.

use super::channels::{PATIENT, http, message};
use super::peers::{HttpPeer, Peer, answer};
use crate::harness::db::TestDb;
use polyphase::domain::notice::ChannelKind;
use polyphase::outbound::gateway::{Gateway, GatewaySettings};
use polyphase::outbound::smpp::{Smpp, SmppSettings};
use polyphase::outbound::telegram::Telegram;
use polyphase::port::notices::{Outgoing, SendError, Sender};
use polyphase::store::smsd::Smsd;
use serde_json::{Value, json};
use std::time::Duration;

fn sms(address: &str, text: &str) -> Outgoing {
    Outgoing {
        body: text.to_owned(),
        ..message(ChannelKind::Sms, address)
    }
}

#[tokio::test]
async fn telegram_is_asked_as_its_bot_api_says() {
    let gone = r#"{"ok":false,"error_code":403,"description":"Forbidden: bot was blocked by the user"}"#;
    let flood = r#"{"ok":false,"error_code":429,"description":"Too Many Requests","parameters":{"retry_after":17}}"#;
    let peer = HttpPeer::start(vec![
        answer(
            "200 OK",
            "",
            r#"{"ok":true,"result":{"message_id":815,"chat":{"id":4711}}}"#,
        ),
        answer("403 Forbidden", "", gone),
        answer("429 Too Many Requests", "", flood),
        answer("502 Bad Gateway", "", "<html>"),
        None,
    ])
    .await;
    let api = format!("http://{}", peer.address);
    let bot = Telegram::new(http(PATIENT), &api, "123:geheim".to_owned().into());
    let sent = message(ChannelKind::Telegram, "-1004711");
    assert_eq!(bot.send(&sent).await.unwrap().reference.as_deref(), Some("815"));
    let came = peer.last();
    assert_eq!(came.line, "POST /bot123:geheim/sendMessage HTTP/1.1");
    let body: Value = serde_json::from_str(&came.body).unwrap();
    assert_eq!(body["chat_id"], json!(-1_004_711_i64));
    assert_eq!(body["text"], format!("{}\n\n{}", sent.subject, sent.body));
    assert!(matches!(bot.send(&sent).await, Err(SendError::Refused(text)) if text.contains("blocked")));
    assert!(matches!(
        bot.send(&sent).await,
        Err(SendError::Passing { retry_after: Some(wait), .. }) if wait.num_seconds() == 17
    ));
    assert!(matches!(bot.send(&sent).await, Err(SendError::Passing { .. })));
    // no error tells the token, and neither does the bot
    let hasty = Telegram::new(http(Duration::from_secs(3)), &api, "123:geheim".to_owned().into());
    let error = hasty.send(&sent).await.unwrap_err();
    assert!(matches!(error, SendError::Unsure(_)), "{error:?}");
    drop(peer);
    let refused = bot.send(&sent).await.unwrap_err();
    assert!(!format!("{error:?} {refused:?} {bot:?}").contains("geheim"));
}

#[tokio::test]
async fn a_gateway_is_asked_by_its_template() {
    let peer = HttpPeer::start(vec![
        answer("200 OK", "", r#"{"status":"queued","id":9}"#),
        answer("200 OK", "", r#"{"status":"no credit"}"#),
        answer("422 No", "", "bad number"),
    ])
    .await;
    let settings = GatewaySettings {
        method: "POST".into(),
        url: format!("http://{}/v1/send?ref={{id}}&u={{user}}", peer.address),
        headers: "Authorization: Bearer {password}\nX-Kind: sms".into(),
        content_type: "application/json".into(),
        body: r#"{"to": ["{to}"], "text": "{text}", "options": {}}"#.into(),
        success: "queued".into(),
        user: "me & you".into(),
        password: "geh\"eim".to_owned().into(),
    };
    let gateway = Gateway::new(http(PATIENT), settings.clone()).unwrap();
    let sent = sms("+8613912345678", "超出限值 \"三号厅\" {to} \\ 253 V");
    let receipt = gateway.send(&sent).await.unwrap();
    assert!(receipt.reference.unwrap().contains("queued"));
    let came = peer.last();
    assert_eq!(
        came.line,
        format!("POST /v1/send?ref={}&u=me%20%26%20you HTTP/1.1", sent.id)
    );
    assert_eq!(came.header("authorization"), "Bearer geh\"eim");
    assert_eq!(came.header("x-kind"), "sms");
    let body: Value = serde_json::from_str(&came.body).unwrap();
    assert_eq!(
        body,
        json!({ "to": ["+8613912345678"], "text": sent.body, "options": {} })
    );
    assert!(
        matches!(gateway.send(&sent).await, Err(SendError::Passing { message, .. }) if message.contains("no credit"))
    );
    let error = gateway.send(&sent).await.unwrap_err();
    assert!(matches!(error, SendError::Refused(_)));
    assert!(!format!("{error:?} {gateway:?}").contains("geh"));
    for (change, what) in [
        (
            GatewaySettings {
                method: "DELETE".into(),
                ..settings.clone()
            },
            "method",
        ),
        (
            GatewaySettings {
                url: "nowhere".into(),
                ..settings.clone()
            },
            "url",
        ),
        (
            GatewaySettings {
                body: "{}".into(),
                ..settings.clone()
            },
            "body",
        ),
        (
            GatewaySettings {
                headers: "nothing".into(),
                ..settings
            },
            "headers",
        ),
    ] {
        assert!(Gateway::new(http(PATIENT), change).unwrap_err().starts_with(what));
    }
}

fn centre(port: u16, password: &str, timeout: Duration) -> Smpp {
    Smpp::new(SmppSettings {
        address: format!("127.0.0.1:{port}"),
        system_id: "hes".into(),
        password: password.to_owned().into(),
        system_type: String::new(),
        source: "Polyphase".into(),
        timeout,
    })
    .unwrap()
}

#[tokio::test]
async fn a_message_centre_gets_whole_texts_in_any_script() {
    let peer = Peer::start("message_centre.py", &[]);
    let sender = centre(peer.port, "s3cret", PATIENT);
    for (text, segments) in [
        ("Voltage {253.1 V} > [253] €".to_owned(), 1),
        ("Deviation: ".repeat(20), 2),
        ("超出限值：三号厅。".repeat(12), 2),
        ("Превышен порог 😀 ".repeat(20), 6),
    ] {
        let sent = sms("+8613912345678", &text);
        assert_eq!(sender.send(&sent).await.unwrap().reference.as_deref(), Some("id-4711"));
        let came = peer.next().await;
        assert_eq!(came["text"], text);
        assert_eq!(came["segments"], segments);
        assert_eq!(
            (&came["to"], &came["from"]),
            (&json!("8613912345678"), &json!("Polyphase"))
        );
        assert_eq!(came["ton"], json!([5, 1]));
    }
    let refused = sender.send(&sms("+4400001", "x")).await.unwrap_err();
    assert!(matches!(refused, SendError::Refused(_)), "{refused:?}");
    let throttled = sender.send(&sms("+4400002", "x")).await.unwrap_err();
    assert!(matches!(throttled, SendError::Passing { .. }), "{throttled:?}");
    sender.send(&sms("+4400002", "x")).await.unwrap();
    // taken, and never answered: nobody knows
    let hasty = centre(peer.port, "s3cret", Duration::from_secs(5));
    let silent = hasty.send(&sms("+4400003", "x")).await.unwrap_err();
    assert!(matches!(silent, SendError::Unsure(_)), "{silent:?}");
    let stranger = centre(peer.port, "wr0ng", PATIENT)
        .send(&sms("+4400009", "x"))
        .await
        .unwrap_err();
    assert!(matches!(stranger, SendError::Passing { .. }), "{stranger:?}");
    let came: Vec<Value> = peer.rest().into_iter().map(|told| told["to"].clone()).collect();
    assert!(
        !came.contains(&json!("4400009")) && !came.contains(&json!("4400001")),
        "{came:?}"
    );
}

/// Tables with the columns that Gammu's manual documents (SMSD, "SMSD Database Structure").
const SMSD_TABLES: &str = r#"
CREATE TABLE outbox ("ID" serial PRIMARY KEY, "UpdatedInDB" timestamp NOT NULL DEFAULT now(), "Text" text,
    "DestinationNumber" varchar(20) NOT NULL DEFAULT '', "Coding" varchar(255) NOT NULL DEFAULT 'Default_No_Compression'
    CHECK ("Coding" IN ('Default_No_Compression', 'Unicode_No_Compression', '8bit', 'Default_Compression', 'Unicode_Compression')),
    "UDH" text, "Class" integer DEFAULT -1, "TextDecoded" text NOT NULL DEFAULT '', "MultiPart" boolean NOT NULL DEFAULT false,
    "CreatorID" text NOT NULL);
CREATE TABLE outbox_multipart ("Text" text, "Coding" varchar(255) NOT NULL DEFAULT 'Default_No_Compression', "UDH" text,
    "Class" integer DEFAULT -1, "TextDecoded" text, "ID" serial, "SequencePosition" integer NOT NULL DEFAULT 1,
    PRIMARY KEY ("ID", "SequencePosition"));
CREATE TABLE sentitems ("ID" serial, "TextDecoded" text NOT NULL DEFAULT '', "DestinationNumber" varchar(20) NOT NULL DEFAULT '',
    "SequencePosition" integer NOT NULL DEFAULT 1, "CreatorID" text NOT NULL, PRIMARY KEY ("ID", "SequencePosition"));
"#;

#[tokio::test]
async fn a_modem_gets_each_message_once_whatever_happens() {
    let db = TestDb::blank().await;
    db.sql(SMSD_TABLES).await;
    let sender = Smsd::new(&db.url(), PATIENT).unwrap();
    let short = sms("+8613912345678", "Voltage 253.1 V");
    let first = sender.send(&short).await.unwrap();
    // the server died before it could write down that this was sent
    assert_eq!(sender.send(&short).await.unwrap(), first);
    let both = futures::future::join_all((0..5).map(|_| sender.send(&short))).await;
    assert!(both.into_iter().all(|again| again.as_ref() == Ok(&first)));
    // smsd has sent it meanwhile
    db.sql(
        r#"INSERT INTO sentitems ("ID", "TextDecoded", "DestinationNumber", "CreatorID")
           SELECT "ID", "TextDecoded", "DestinationNumber", "CreatorID" FROM outbox; DELETE FROM outbox"#,
    )
    .await;
    assert_eq!(sender.send(&short).await.unwrap(), first);
    let long = sms("+8613912345679", &"超出限值：三号厅。".repeat(20));
    sender.send(&long).await.unwrap();
    let rows: Vec<(String, String, String, bool, Option<String>)> = sqlx::query_as(
        r#"SELECT "DestinationNumber"::text, "TextDecoded", "Coding"::text, "MultiPart", "UDH" FROM outbox"#,
    )
    .fetch_all(&mut db.superuser().await)
    .await
    .unwrap();
    assert_eq!(rows.len(), 1, "the first one was not written again");
    let (number, head, coding, multi, udh) = rows[0].clone();
    assert_eq!(
        (number.as_str(), coding.as_str(), multi),
        ("+8613912345679", "Unicode_No_Compression", true)
    );
    assert!(udh.unwrap().starts_with("050003") && head.chars().count() == 67);
    let rest: Vec<(i32, String, String)> = sqlx::query_as(
        r#"SELECT "SequencePosition", "TextDecoded", "UDH" FROM outbox_multipart ORDER BY "SequencePosition""#,
    )
    .fetch_all(&mut db.superuser().await)
    .await
    .unwrap();
    assert_eq!(rest.iter().map(|(position, ..)| *position).collect::<Vec<_>>(), [2, 3]);
    assert!(rest[1].2.ends_with("0303"), "{}", rest[1].2);
    let whole: String = std::iter::once(head)
        .chain(rest.into_iter().map(|(_, text, _)| text))
        .collect();
    assert_eq!(whole, long.body);
    // without its tables: later
    let blank = TestDb::blank().await;
    let error = Smsd::new(&blank.url(), PATIENT)
        .unwrap()
        .send(&short)
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::Passing { .. }), "{error:?}");
    assert!(Smsd::new(&"mysql://x".to_owned().into(), PATIENT).is_err());
}
