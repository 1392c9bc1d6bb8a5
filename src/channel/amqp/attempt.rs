//! An attempt to connect, which ends when nobody waits for it any more.
//!
//! The client library connects in a thread of its own and waits there without a time limit. Dropping the future that
//! waits for the connection does not end the thread: a silent broker would cost a thread, a socket, and their memory
//! with each attempt. So what the thread waits for (the opening of the stream, then the stream) fails once the waiter
//! is gone.

use futures_util::FutureExt;
use futures_util::future::Shared;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// Held by whoever waits for the connection; dropping it abandons the attempt.
pub(super) struct Waiter(oneshot::Sender<()>);

/// What the attempt sees of its waiter.
#[derive(Clone)]
pub(super) struct Attempt(Shared<oneshot::Receiver<()>>);

pub(super) fn attempt() -> (Waiter, Attempt) {
    let (waiter, seen) = oneshot::channel();
    (Waiter(waiter), Attempt(seen.shared()))
}

impl Waiter {
    /// The waiter has its connection, which lives on without it.
    pub(super) fn connected(self) {
        let _ = self.0.send(());
    }
}

impl Attempt {
    /// What `opening` yields, unless the attempt is abandoned first.
    pub(super) async fn run<T>(&self, opening: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        tokio::select! {
            opened = opening => opened,
            _ = self.0.clone() => Err(abandoned()),
        }
    }

    pub(super) fn watch<S>(&self, stream: S) -> Watched<S> {
        Watched { stream, attempt: Some(self.0.clone()) }
    }
}

fn abandoned() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "nobody waits for this connection any more")
}

/// A stream whose reads fail once its attempt is abandoned. While it connects, the client library always has a read pending,
/// so writes need no check.
pub(super) struct Watched<S> {
    stream: S,
    /// None once connected: from then on, reads cost nothing more.
    attempt: Option<Shared<oneshot::Receiver<()>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(attempt) = &mut self.attempt {
            match attempt.poll_unpin(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(Err(abandoned())),
                Poll::Ready(Ok(())) => self.attempt = None,
                Poll::Pending => {}
            }
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
