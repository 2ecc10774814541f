//! Files as answers: streamed in small pieces, whole or the one part that `Range` names (RFC 9110 §14).

use super::problem::{ApiError, Kind};
use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, ContentEncoding};
use actix_web::{HttpRequest, HttpResponse};
use std::io::SeekFrom;
use std::path::PathBuf;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, Take};
use tokio_util::io::ReaderStream;

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// A file to be sent.
#[derive(Clone, Debug)]
pub(super) struct Download {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// What it is called at the client: plain ASCII, of ours.
    pub(super) name: String,
    /// What it is.
    pub(super) media_type: &'static str,
    /// What tells it from another file, as hex; empty: nothing does.
    pub(super) tag: String,
}

/// A part of a file: its first byte and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    first: u64,
    length: u64,
}

/// What of the file is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part(Part),
    Beyond,
}

/// One range of bytes; several, other units and what cannot be read are answered with the whole file, as the RFC allows.
fn wanted(range: Option<&str>, length: u64) -> Wanted {
    let Some((first, last)) = range
        .and_then(|text| text.trim().strip_prefix("bytes="))
        .and_then(|text| text.split_once('-'))
    else {
        return Wanted::All;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (first, end) = match (first.trim(), last.trim()) {
        ("", "") => return Wanted::All,
        ("", tail) => match number(tail) {
            Some(0) => return Wanted::Beyond,
            Some(tail) => (length.saturating_sub(tail), length),
            None => return Wanted::All,
        },
        (first, "") => match number(first) {
            Some(first) => (first, length),
            None => return Wanted::All,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(length)),
            _ => return Wanted::All,
        },
    };
    if first >= length {
        return Wanted::Beyond;
    }
    Wanted::Part(Part {
        first,
        length: end.saturating_sub(first),
    })
}

/// A file that is open for sending.
pub(super) struct Opened {
    download: Download,
    wanted: Wanted,
    length: u64,
    reader: Take<File>,
}

impl Download {
    /// Opens it at what the request asks for.
    ///
    /// # Errors
    /// `not-found` when it is gone.
    pub(super) async fn open(self, request: &HttpRequest) -> Result<Opened, ApiError> {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => ApiError::not_found("file"),
            _ => ApiError::new(Kind::Internal, format!("the file cannot be read: {error}")),
        };
        let mut file = File::open(&self.path).await.map_err(failed)?;
        let length = file.metadata().await.map_err(failed)?.len();
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let range = match text(header::IF_RANGE) {
            Some(tag) if tag != quoted(&self.tag) => None,
            _ => text(header::RANGE),
        };
        let wanted = wanted(range, length);
        let part = match wanted {
            Wanted::Part(part) => part,
            Wanted::All | Wanted::Beyond => Part { first: 0, length },
        };
        file.seek(SeekFrom::Start(part.first)).await.map_err(failed)?;
        Ok(Opened {
            reader: file.take(part.length),
            download: self,
            wanted,
            length,
        })
    }
}

fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

impl Opened {
    /// Whether the file's first byte is asked for.
    pub(super) fn begins_at_zero(&self) -> bool {
        match self.wanted {
            Wanted::All => true,
            Wanted::Part(part) => part.first == 0,
            Wanted::Beyond => false,
        }
    }

    /// The answer.
    pub(super) fn answer(self) -> HttpResponse {
        let mut answer = HttpResponse::build(match self.wanted {
            Wanted::All => StatusCode::OK,
            Wanted::Part(_) => StatusCode::PARTIAL_CONTENT,
            Wanted::Beyond => StatusCode::RANGE_NOT_SATISFIABLE,
        });
        answer.insert_header((header::ACCEPT_RANGES, "bytes"));
        if self.wanted == Wanted::Beyond {
            answer.insert_header((header::CONTENT_RANGE, format!("bytes */{}", self.length)));
            return answer.finish();
        }
        if !self.download.tag.is_empty() {
            answer.insert_header((header::ETAG, quoted(&self.download.tag)));
        }
        let mut length = self.length;
        if let Wanted::Part(part) = self.wanted {
            let last = part.first.saturating_add(part.length).saturating_sub(1);
            let range = format!("bytes {}-{last}/{}", part.first, self.length);
            answer.insert_header((header::CONTENT_RANGE, range));
            length = part.length;
        }
        answer
            .insert_header((header::CONTENT_TYPE, self.download.media_type))
            .insert_header((
                header::CONTENT_DISPOSITION,
                format!("attachment; filename=\"{}\"", self.download.name),
            ))
            // compressed on the way, parts and lengths would mean nothing
            .insert_header(ContentEncoding::Identity)
            .body(SizedStream::new(
                length,
                ReaderStream::with_capacity(self.reader, PIECE),
            ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_as_the_rfc_has_them() {
        let part = |first, length| Wanted::Part(Part { first, length });
        for (text, found) in [
            ("bytes=0-", part(0, 10)),
            ("bytes=0-0", part(0, 1)),
            ("bytes=4-6", part(4, 3)),
            ("bytes=4-99", part(4, 6)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-99", part(0, 10)),
            ("bytes=10-", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=6-4", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("lines=0-1", Wanted::All),
            ("bytes=-", Wanted::All),
        ] {
            assert_eq!(wanted(Some(text), 10), found, "{text}");
        }
        assert_eq!(wanted(None, 10), Wanted::All);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Beyond);
    }
}
