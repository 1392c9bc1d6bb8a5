//! Connections to receivers: pooled, reused, and replaced when one is lost under a request.
//!
//! A receiver may close a pooled connection at any time, even while a request is on its way, and no client can know. So
//! a request whose reused connection ends before any byte of the answer is sent once more, on a new connection:
//! receivers recognize a message by its identity. A failure on a new connection is the receiver's failure.

use super::failure;
use bytes::Bytes;
use http::{Request, Response, Uri, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector, capture_connection};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::crypto::aws_lc_rs::default_provider;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower::{BoxError, Service};

const CONNECT_TIMEOUT_SECONDS: u64 = 10;
const TCP_KEEPALIVE_SECONDS: u64 = 15;
const POOL_IDLE_LIMIT_PER_HOST: usize = 256;

/// How long a connection is reused.
#[derive(Clone, Copy, Debug)]
pub struct Pooling {
    /// Longest time without a request. Zero: every request opens a connection.
    pub idle: Duration,
    /// Longest age, after which the receiver's name is resolved again.
    pub age: Duration,
}

pub(super) type Body = Full<Bytes>;

pub(super) struct Connections {
    pooled: Client<Connector, Body>,
    /// Opens a new connection for each request.
    fresh: Client<Connector, Body>,
    pooling: Pooling,
}

impl Connections {
    /// Errs if TLS cannot be set up. On a machine without any root certificates it starts anyway, and trusts no `https`
    /// receiver.
    pub fn new(pooling: Pooling) -> Result<Self, rustls::Error> {
        Ok(Self::over(Connector(https()?), pooling, false))
    }

    /// `http2_only`: HTTP/2 from the first byte, without TLS to negotiate it.
    fn over(connector: Connector, pooling: Pooling, http2_only: bool) -> Self {
        // So that a connection may be idle, be used once more, and still not exceed its age.
        let pooling = Pooling { idle: pooling.idle.min(pooling.age / 2), ..pooling };
        let client = |idle_most| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(pooling.idle)
                .pool_max_idle_per_host(idle_most)
                .http2_only(http2_only)
                .build(connector.clone())
        };
        let idle_most = if pooling.idle.is_zero() { 0 } else { POOL_IDLE_LIMIT_PER_HOST };
        Connections { pooled: client(idle_most), fresh: client(0), pooling }
    }

    /// Sends the request and returns the head of the answer. `resent` is set if it was sent a second time.
    pub async fn send(&self, request: Request<Body>, resent: &AtomicBool) -> Result<Response<Incoming>, Error> {
        let (again, started) = (request.clone(), Instant::now());
        match self.send_over(&self.pooled, request).await {
            Err(error) if is_lost_before_an_answer(&error, started) => {
                resent.store(true, Ordering::Relaxed);
                self.send_over(&self.fresh, again).await
            }
            other => other,
        }
    }

    async fn send_over(
        &self,
        client: &Client<Connector, Body>,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        let captured = capture_connection(&mut request);
        let response = client.request(request).await?;
        if let Some(info) = response.extensions().get::<Arc<ConnectionInfo>>() {
            info.http2.store(response.version() == Version::HTTP_2, Ordering::Relaxed);
            if info.opened.elapsed() + self.pooling.idle >= self.pooling.age
                && let Some(connected) = &*captured.connection_metadata()
            {
                connected.poison();
            }
        }
        Ok(response)
    }
}

/// Whether the receiver cannot have answered: a connection opened before the request was `started` ended without a
/// byte, or the receiver itself states that it did not process the request (RFC 9113, 6.8 and 8.7).
fn is_lost_before_an_answer(error: &Error, started: Instant) -> bool {
    if failure::is_unprocessed(error) {
        return true;
    }
    let Some(connected) = error.connect_info().filter(|_| !error.is_connect()) else { return false };
    let mut extensions = http::Extensions::new();
    connected.get_extras(&mut extensions);
    let Some(info) = extensions.get::<Arc<ConnectionInfo>>() else { return false };
    // Not only connections that have answered: the pool also keeps one that was opened for a request which then found a
    // free one.
    let reused = info.opened < started;
    // Requests share an HTTP/2 connection, so bytes of another answer show nothing about this one.
    let silent = info.http2.load(Ordering::Relaxed) || !info.has_received.load(Ordering::Relaxed);
    reused && silent && failure::is_connection_lost(error)
}

/// What is known about a connection besides its bytes.
struct ConnectionInfo {
    opened: Instant,
    /// Whether anything was read since the last write.
    has_received: AtomicBool,
    http2: AtomicBool,
}

/// Opens connections within the timeout, and tracks them.
#[derive(Clone)]
pub(super) struct Connector(HttpsConnector<HttpConnector>);

impl Service<Uri> for Connector {
    type Response = TokioIo<ObservedStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<ObservedStream>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let opening = self.0.call(to);
        Box::pin(async move {
            let stream = tokio::time::timeout(Duration::from_secs(CONNECT_TIMEOUT_SECONDS), opening).await;
            let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let info = ConnectionInfo {
                opened: Instant::now(),
                has_received: AtomicBool::new(false),
                http2: AtomicBool::new(false),
            };
            Ok(TokioIo::new(ObservedStream { stream: TokioIo::new(stream), info: Arc::new(info) }))
        })
    }
}

fn https() -> Result<HttpsConnector<HttpConnector>, rustls::Error> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(Duration::from_secs(CONNECT_TIMEOUT_SECONDS)));
    http.set_keepalive(Some(Duration::from_secs(TCP_KEEPALIVE_SECONDS)));
    let trusting = HttpsConnectorBuilder::new().with_provider_and_platform_verifier(default_provider());
    let builder = match trusting {
        Ok(builder) => builder,
        Err(error) => {
            tracing::warn!(%error, "the root certificates of this machine cannot be read; no https receiver will be trusted");
            let config = rustls::ClientConfig::builder_with_provider(default_provider().into())
                .with_safe_default_protocol_versions()?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            HttpsConnectorBuilder::new().with_tls_config(config)
        }
    };
    Ok(builder.https_or_http().enable_all_versions().wrap_connector(http))
}

/// A connection that records reads and writes.
pub(super) struct ObservedStream {
    stream: TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>,
    info: Arc<ConnectionInfo>,
}

impl ObservedStream {
    fn wrote(&self, result: &io::Result<usize>) {
        if matches!(result, Ok(1..)) {
            self.info.has_received.store(false, Ordering::Relaxed);
        }
    }
}

impl Connection for ObservedStream {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.info.clone())
    }
}

impl AsyncRead for ObservedStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        if into.filled().len() > before {
            self.info.has_received.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ObservedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.wrote(&written);
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts));
        self.wrote(&written);
        Poll::Ready(written)
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
