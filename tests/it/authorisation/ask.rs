//! Who asks, how, and what comes back.

use polyphase::domain::access::Role;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The same of every request, so that answers can be compared byte by byte.
const REQUEST_ID: &str = "the-same-of-all";

/// Somebody.
#[derive(Debug)]
pub struct Caller {
    pub name: &'static str,
    /// None: a stranger, whatever they hold.
    pub role: Option<Role>,
    pub key: Option<String>,
    /// The account that role `platform` names.
    pub within: Option<&'static str>,
}

impl Caller {
    pub fn new(name: &'static str, role: Option<Role>, key: Option<String>) -> Self {
        Self {
            name,
            role,
            key,
            within: None,
        }
    }

    pub fn within(self, account: String) -> Self {
        Self {
            within: Some(account.leak()),
            ..self
        }
    }
}

/// An answer as its bytes.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub text: String,
}

impl Answer {
    fn new(bytes: &[u8]) -> Self {
        let all = String::from_utf8_lossy(bytes);
        let (head, text) = all.split_once("\r\n\r\n").unwrap_or((&all, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status");
        Self {
            status,
            head: head.to_owned(),
            text: text.to_owned(),
        }
    }

    pub fn whole(&self) -> String {
        format!("{}\n{}", self.head, self.text)
    }

    /// All that must not differ between an object of somebody else and none.
    pub fn comparable(&self) -> String {
        let mut lines: Vec<&str> = self
            .head
            .lines()
            .filter(|line| !line.to_lowercase().starts_with("date:"))
            .collect();
        lines.sort_unstable();
        format!("{}\n\n{}", lines.join("\n"), self.text)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The problem's kind; empty when it is none.
    pub fn problem(&self) -> String {
        let json = self.json();
        let kind = json["type"].as_str().unwrap_or_default();
        kind.trim_start_matches("/problems/").to_owned()
    }
}

fn head(address: SocketAddr, caller: &Caller, method: &str, path: &str, body: Option<&str>) -> String {
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nX-Request-Id: {REQUEST_ID}\r\n");
    if let Some(key) = &caller.key {
        head.push_str(&format!("Authorization: Bearer {key}\r\n"));
    }
    if method != "GET" {
        head.push_str("If-Match: *\r\n");
    }
    if let Some(body) = body {
        // a file is text from its first character on, JSON never
        let media = if body.starts_with(['{', '[']) {
            "application/json"
        } else {
            "text/csv"
        };
        head.push_str(&format!("Content-Type: {media}\r\nContent-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    head.push_str(body.unwrap_or_default());
    head
}

/// Asks. Of an answer that does not end by itself (a stream) the beginning is enough.
pub async fn ask(address: SocketAddr, caller: &Caller, method: &str, path: &str, body: Option<Value>) -> Answer {
    let body = body.map(|body| match body {
        Value::String(file) => file,
        body => body.to_string(),
    });
    let request = head(address, caller, method, path, body.as_deref());
    let whole = async {
        let mut socket = TcpStream::connect(address).await.expect("connect");
        socket.write_all(request.as_bytes()).await.expect("write");
        let mut all = Vec::new();
        let mut bytes = [0; 16_384];
        loop {
            let count = socket.read(&mut bytes).await.expect("read");
            all.extend_from_slice(&bytes[..count]);
            let text = String::from_utf8_lossy(&all);
            let streams = text.contains("text/event-stream") && text.contains(": welcome");
            if count == 0 || streams {
                return all;
            }
        }
    };
    let all = tokio::time::timeout(Duration::from_secs(120), whole).await;
    Answer::new(&all.unwrap_or_else(|_| panic!("{method} {path} does not answer")))
}

/// The live stream.
pub struct Stream {
    socket: TcpStream,
    text: String,
}

impl Stream {
    pub async fn open(address: SocketAddr, caller: &Caller) -> Self {
        let query = caller
            .within
            .map(|account| format!("?account={account}"))
            .unwrap_or_default();
        let request = head(address, caller, "GET", &format!("/api/v1/stream{query}"), None);
        let mut socket = TcpStream::connect(address).await.expect("connect");
        socket.write_all(request.as_bytes()).await.expect("write");
        let mut stream = Self {
            socket,
            text: String::new(),
        };
        stream.until(": welcome").await;
        stream
    }

    /// All that came up to a text.
    pub async fn until(&mut self, end: &str) -> &str {
        let wait = async {
            let mut bytes = [0; 4096];
            while !self.text.contains(end) {
                let count = self.socket.read(&mut bytes).await.expect("read");
                assert!(count > 0, "the stream ended: {}", self.text);
                self.text.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(120), wait).await;
        assert!(waited.is_ok(), "{end:?} did not come");
        &self.text
    }
}
