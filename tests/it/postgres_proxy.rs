//! A proxy before a PostgreSQL server that cuts a connection at a COMMIT: before the server gets it, or after it has done it and
//! before its reply arrives.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What happens at the next COMMIT.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    Never,
    /// The server sees the end of the connection instead of the COMMIT.
    Before,
    /// The server commits; its reply is lost with the connection.
    After,
    /// The client loses the connection; the server waits for a COMMIT that does not come.
    Orphaned,
}

pub struct PostgresProxy {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    server: u16,
    next: Mutex<Cut>,
    cuts: AtomicUsize,
}

impl PostgresProxy {
    /// Passes everything to the server on this port until it is told otherwise. Ends with the test's runtime.
    pub async fn before(server: u16) -> PostgresProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { server, next: Mutex::new(Cut::Never), cuts: AtomicUsize::new(0) });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, shared.clone()));
            }
        });
        PostgresProxy { address, state }
    }

    /// The URL of a database, through this proxy.
    pub fn url(&self, direct: &str) -> String {
        direct.replace(&format!(":{}/", self.state.server), &format!(":{}/", self.address.port()))
    }

    /// Cuts the connection of the next COMMIT, once.
    pub fn cut_next(&self, cut: Cut) {
        *self.state.next.lock().unwrap() = cut;
    }

    pub fn cuts(&self) -> usize {
        self.state.cuts.load(Ordering::SeqCst)
    }
}

impl State {
    fn take_cut(&self) -> Cut {
        let cut = std::mem::replace(&mut *self.next.lock().unwrap(), Cut::Never);
        self.cuts.fetch_add(usize::from(cut != Cut::Never), Ordering::SeqCst);
        cut
    }
}

async fn pass(client: TcpStream, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", state.server)).await else { return };
    let ((mut from_client, to_client), (from_server, mut to_server)) = (client.into_split(), server.into_split());
    let muted = Arc::new(AtomicBool::new(false));
    let replies = tokio::spawn(pass_replies(from_server, to_client, muted.clone()));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from_client.read(&mut buffer).await else { return replies.abort() };
        let sent = &buffer[..count];
        // A simple query: its type, its length, and its text.
        let is_commit = sent.windows(7).any(|window| window == b"COMMIT\0");
        match if is_commit { state.take_cut() } else { Cut::Never } {
            Cut::Never => {
                if to_server.write_all(sent).await.is_err() {
                    return replies.abort();
                }
            }
            Cut::Before => return replies.abort(),
            Cut::After => {
                muted.store(true, Ordering::SeqCst);
                let _ = to_server.write_all(sent).await;
                let _ = replies.await;
                return;
            }
            Cut::Orphaned => {
                replies.abort();
                drop(from_client);
                // The server's side stays open until the server ends it.
                return std::future::pending().await;
            }
        }
    }
}

/// Passes what the server says. Muted, it ends with what comes next.
async fn pass_replies(mut from_server: OwnedReadHalf, mut to_client: OwnedWriteHalf, muted: Arc<AtomicBool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
        if muted.load(Ordering::SeqCst) || to_client.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
