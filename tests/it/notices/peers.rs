//! The far sides: a mail server of other people (PyPI aiosmtpd), and an HTTP server that remembers what it was asked and
//! answers as it is told.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A Python peer that tells its port and then one JSON line each time something came.
pub struct Peer {
    child: Child,
    pub port: u16,
    said: mpsc::Receiver<Value>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Peer {
    pub fn start(script: &str, arguments: &[&str]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("target/peers/bin/python");
        assert!(python.is_file(), "the peers are not there: run scripts/install.sh test");
        let mut child = Command::new(python)
            .arg(root.join("tests/peers").join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines
            .next()
            .expect("the peer says its port")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let (tell, said) = mpsc::sync_channel(1000);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if tell.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, port, said }
    }

    /// The next thing that came; the runtime of the test goes on meanwhile.
    pub async fn next(&self) -> Value {
        let begun = std::time::Instant::now();
        loop {
            if let Ok(said) = self.said.try_recv() {
                return said;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "something comes within two minutes"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What came and was not looked at.
    pub fn rest(&self) -> Vec<Value> {
        self.said.try_iter().collect()
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }

    /// Checks the signature as a receiver does (Standard Webhooks), with the secret that its owner was shown.
    pub fn is_signed(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        let signed = format!(
            "{}.{}.{}",
            self.header("webhook-id"),
            self.header("webhook-timestamp"),
            self.body
        );
        mac.update(signed.as_bytes());
        let expected = STANDARD.encode(mac.finalize().into_bytes());
        self.header("webhook-signature")
            .split(' ')
            .any(|one| one.strip_prefix("v1,") == Some(&expected))
    }
}

/// An HTTP server for one request a connection. An answer is everything behind `HTTP/1.1 `; none: it never answers.
pub struct HttpPeer {
    pub address: SocketAddr,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for HttpPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn answer(status: &str, headers: &str, body: &str) -> Option<String> {
    Some(format!(
        "{status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
}

impl HttpPeer {
    /// Answers this in turn, the last one for ever.
    pub async fn start(answers: Vec<Option<String>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let (noted, planned) = (Arc::clone(&asked), answers);
        let task = tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let (noted, planned) = (Arc::clone(&noted), Arc::clone(&planned));
                tokio::spawn(async move {
                    let Some(asked) = read(&mut socket).await else { return };
                    noted.lock().unwrap().push(asked);
                    let answer = {
                        let mut planned = planned.lock().unwrap();
                        if planned.len() > 1 {
                            planned.pop_front().unwrap()
                        } else {
                            planned[0].clone()
                        }
                    };
                    match answer {
                        Some(answer) => {
                            let _written = socket.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await;
                        }
                        None => std::future::pending::<()>().await,
                    }
                });
            }
        });
        Self { address, asked, task }
    }

    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub fn last(&self) -> Asked {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

async fn read(socket: &mut tokio::net::TcpStream) -> Option<Asked> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let split = all.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(split) = split {
            let head = String::from_utf8_lossy(&all[..split]).into_owned();
            let mut lines = head.lines();
            let line = lines.next()?.to_owned();
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
                .collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
            if all.len() >= split + 4 + length {
                let body = String::from_utf8_lossy(&all[split + 4..split + 4 + length]).into_owned();
                return Some(Asked { line, headers, body });
            }
        }
        let read = socket.read(&mut buffer).await.ok()?;
        if read == 0 {
            return None;
        }
        all.extend_from_slice(&buffer[..read]);
    }
}
