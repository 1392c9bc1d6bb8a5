//! The connection below AMQP: TCP, and TLS if the broker's URL says `amqps`.
//!
//! The client library has TLS of its own, but with readers of PKCS #12 and X.509 that nothing here needs: 43 crates, a
//! fourteenth of a clean release build. It takes a stream of ours through the type of its runtime instead.

use super::attempt::Attempt;
use crate::config::{BrokerUrl, read_regular_text};
use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_util::Stream;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls_platform_verifier::Verifier;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

/// Size limit of a certificate, a key, or a system's list of authorities.
const PEM_LIMIT_BYTES: u64 = 4 * 1024 * 1024;

/// What the files of an `amqps` URL contain.
pub(super) struct TlsFiles {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
}

struct Identity {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsFiles {
    pub(super) fn read(broker: &BrokerUrl) -> Result<Self, String> {
        let authorities = broker.ca_file.as_deref().map(certificates).transpose()?.unwrap_or_default();
        let identity = match (&broker.cert_file, &broker.key_file) {
            (Some(certificate), Some(key)) => {
                Some(Identity { certificates: certificates(certificate)?, key: private_key(key)? })
            }
            _ => None,
        };
        Ok(Self { authorities, identity })
    }

    /// Trusts the system's authorities, and the one that the URL names.
    fn connector(&self) -> io::Result<TlsConnector> {
        let provider = Arc::new(default_provider());
        let verifier = Verifier::new_with_extra_roots(self.authorities.clone(), provider.clone()).map_err(invalid)?;
        // `dangerous` is how rustls names every verifier but its own.
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(invalid)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match &self.identity {
            Some(Identity { certificates, key }) => {
                builder.with_client_auth_cert(certificates.clone(), key.clone_key()).map_err(invalid)?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config).into())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = sections(path)?;
    if certificates.is_empty() { Err(format!("{} has no certificate", path.display())) } else { Ok(certificates) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    sections(path)?.into_iter().next().ok_or_else(|| format!("{} has no unencrypted private key", path.display()))
}

/// The sections of one kind in a PEM file; other sections are skipped.
fn sections<T: PemObject>(path: &Path) -> Result<Vec<T>, String> {
    let pem = read_regular_text(path, PEM_LIMIT_BYTES);
    let pem = pem.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let sections = T::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>();
    sections.map_err(|error| format!("{} is not valid PEM: {error}", path.display()))
}

fn invalid(error: impl Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A connection with or without TLS, as the client library reads and writes it.
pub(super) type Socket = Compat<Box<dyn Duplex>>;

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Connects to the broker; with `tls`, the handshake is done as well. Fails when `attempt` is abandoned, and so does the
/// stream until it is connected.
pub(super) async fn open(host: &str, port: u16, tls: Option<&TlsFiles>, attempt: &Attempt) -> io::Result<Socket> {
    let opening = async {
        let tcp = tcp(host, port).await?;
        let Some(tls) = tls else { return Ok(boxed(attempt.watch(tcp))) };
        let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
        Ok(boxed(attempt.watch(tls.connector()?.connect(name, tcp).await?)))
    };
    attempt.run(opening).await
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect((host, port)).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

fn boxed(stream: impl Duplex + 'static) -> Socket {
    let stream: Box<dyn Duplex> = Box::new(stream);
    stream.compat()
}

/// The client library's runtime: tokio, but for the type of connections.
pub(super) fn runtime() -> Runtime<RuntimeParts<Tokio, Connections>> {
    let tokio = Tokio::current();
    Runtime::new(RuntimeParts::new(tokio.clone(), Connections(tokio)))
}

#[derive(Clone, Debug)]
pub(super) struct Connections(Tokio);

impl Reactor for Connections {
    type TcpStream = Socket;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl futures_util::io::AsyncRead + futures_util::io::AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(&self, address: SocketAddr) -> impl Future<Output = io::Result<Socket>> + Send + 'static {
        connect(address)
    }
}

async fn connect(address: SocketAddr) -> io::Result<Socket> {
    Ok(boxed(tcp(&address.ip().to_string(), address.port()).await?))
}
