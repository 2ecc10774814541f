//! Reading and writing streams: no buffer while idle, every write with a deadline.

use crate::port::field::EndCause;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Bytes of one read. They lie on the stack for the time of a poll, so that an idle connection holds no buffer.
const READ_MAX: usize = 2_048;
/// A buffer that grew beyond this is given back.
const KEPT_MAX: usize = 512;

/// Reads what is there into the emptied `bytes`; 0 is the end of the stream. Cancel-safe.
pub(super) async fn read_some<S: AsyncRead + Unpin>(io: &mut S, bytes: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|context| {
        let mut room = [MaybeUninit::uninit(); READ_MAX];
        let mut read = ReadBuf::uninit(&mut room);
        match Pin::new(&mut *io).poll_read(context, &mut read) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                let filled = read.filled();
                bytes.clear();
                if bytes.capacity() > KEPT_MAX {
                    bytes.shrink_to(KEPT_MAX);
                }
                bytes.extend_from_slice(filled);
                Poll::Ready(Ok(filled.len()))
            }
        }
    })
    .await
}

/// The same, without waiting.
pub(super) async fn read_now<S: AsyncRead + Unpin>(io: &mut S, bytes: &mut Vec<u8>) -> Option<io::Result<usize>> {
    use futures::FutureExt as _;
    read_some(io, bytes).now_or_never()
}

/// Writes all within `limit`.
///
/// # Errors
/// The cause to end the session with.
pub(super) async fn write_all<S>(io: &mut S, bytes: &[u8], limit: Duration) -> Result<(), EndCause>
where
    S: AsyncWrite + Unpin,
{
    let writing = async {
        io.write_all(bytes).await?;
        io.flush().await
    };
    let mut writing = pin!(writing);
    // nearly always there is room at once: no timer then
    let written = match futures::poll!(writing.as_mut()) {
        Poll::Ready(written) => Ok(written),
        Poll::Pending => tokio::time::timeout(limit, writing).await,
    };
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(EndCause::SocketError),
        Err(_) => Err(EndCause::WriteStalled),
    }
}
