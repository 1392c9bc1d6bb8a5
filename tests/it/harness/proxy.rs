//! A bad network: a TCP proxy before a broker, with faults that a test turns on and off.
//!
//! It has a thread of its own, so a test that blocks its runtime does not block the connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::broker::url_of;
use super::{SOON, free_address, wait_until};

const BUFFER_BYTES: usize = 64 * 1024;
const NO_LIMIT: u64 = u64::MAX;

/// A proxy on a free port. Dropping it closes its connections.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

struct State {
    broker: SocketAddr,
    swallow_from_broker: AtomicBool,
    swallow_to_broker: AtomicBool,
    /// Bytes that still pass to the broker before the connection is cut.
    left_to_broker: AtomicU64,
    cuts: watch::Sender<u64>,
    refuse: watch::Sender<bool>,
    listening: AtomicBool,
    connections: AtomicUsize,
    open: AtomicUsize,
    to_broker: AtomicU64,
    from_broker: AtomicU64,
}

impl Proxy {
    /// A proxy before a loopback port that passes everything.
    pub async fn before(port: u16) -> Proxy {
        let state = Arc::new(State {
            broker: SocketAddr::from(([127, 0, 0, 1], port)),
            swallow_from_broker: AtomicBool::new(false),
            swallow_to_broker: AtomicBool::new(false),
            left_to_broker: AtomicU64::new(NO_LIMIT),
            cuts: watch::Sender::new(0),
            refuse: watch::Sender::new(false),
            listening: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            to_broker: AtomicU64::new(0),
            from_broker: AtomicU64::new(0),
        });
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = free_address();
        runtime.spawn(listen(address, state.clone()));
        let proxy = Proxy { address, state, runtime: Some(runtime) };
        proxy.until_listening(true).await;
        proxy
    }

    pub fn url(&self) -> String {
        url_of(self.address.port())
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Resets every connection now; later ones pass.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// Nobody listens any more, or again. Open connections stay.
    pub async fn refuse(&self, on: bool) {
        self.state.refuse.send_replace(on);
        self.until_listening(!on).await;
    }

    /// Bytes from the broker are read and dropped: confirms, deliveries and answers get lost. Nothing passes again on a
    /// connection that lost bytes; cut it.
    pub fn swallow_from_broker(&self, on: bool) {
        self.state.swallow_from_broker.store(on, Ordering::SeqCst);
    }

    /// Bytes to the broker are read and dropped: publishes and acks get lost. Cut the connection afterwards.
    pub fn swallow_to_broker(&self, on: bool) {
        self.state.swallow_to_broker.store(on, Ordering::SeqCst);
    }

    /// Cuts all connections once so many further bytes have gone to the broker; that happens once.
    pub fn cut_after_to_broker(&self, bytes: u64) {
        self.state.left_to_broker.store(bytes, Ordering::SeqCst);
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Bytes read from clients, swallowed ones too.
    pub fn bytes_to_broker(&self) -> u64 {
        self.state.to_broker.load(Ordering::SeqCst)
    }

    /// Bytes read from the broker, swallowed ones too.
    pub fn bytes_from_broker(&self) -> u64 {
        self.state.from_broker.load(Ordering::SeqCst)
    }

    async fn until_listening(&self, on: bool) {
        let what = if on { "the proxy listens" } else { "the proxy refuses" };
        wait_until(SOON, what, async || self.state.listening.load(Ordering::SeqCst) == on).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl State {
    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many of `count` bytes still pass; the rest is behind the cut.
    fn passing(&self, count: usize) -> usize {
        let take = |left: u64| (left != NO_LIMIT).then(|| left.saturating_sub(count as u64));
        match self.left_to_broker.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Ok(left) if left <= count as u64 => {
                self.left_to_broker.store(NO_LIMIT, Ordering::SeqCst);
                left as usize
            }
            _ => NO_LIMIT as usize,
        }
    }
}

/// Accepts connections while the test does not refuse them.
async fn listen(address: SocketAddr, state: Arc<State>) {
    let mut refuse = state.refuse.subscribe();
    loop {
        let listener = TcpListener::bind(address).await.expect("the proxy's port is free");
        state.listening.store(true, Ordering::SeqCst);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((client, _)) = accepted else { continue };
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(carry(client, state.clone()));
                }
                _ = refuse.wait_for(|refuse| *refuse) => break,
            }
        }
        drop(listener);
        state.listening.store(false, Ordering::SeqCst);
        let _ = refuse.wait_for(|refuse| !*refuse).await;
    }
}

/// One connection, until one side closes it or it is cut.
async fn carry(mut client: TcpStream, state: Arc<State>) {
    let mut cuts = state.cuts.subscribe();
    // Without a broker behind it, the connection closes as it came.
    let Ok(mut broker) = TcpStream::connect(state.broker).await else { return };
    state.open.fetch_add(1, Ordering::SeqCst);
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_broker, to_broker) = broker.split();
    let cut = tokio::select! {
        cut = up(from_client, to_broker, &state) => cut,
        () = down(from_broker, to_client, &state) => false,
        _ = cuts.changed() => true,
    };
    if cut {
        // A reset for the client. The broker is left what went to it: a reset there could take it back.
        let _ = client.set_zero_linger();
    }
    state.open.fetch_sub(1, Ordering::SeqCst);
}

/// From the client to the broker; true when its bytes were used up.
async fn up(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, state: &State) -> bool {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return false };
        state.to_broker.fetch_add(count as u64, Ordering::SeqCst);
        if state.swallow_to_broker.load(Ordering::SeqCst) {
            continue;
        }
        let passing = state.passing(count);
        if to.write_all(&buffer[..count.min(passing)]).await.is_err() {
            return false;
        }
        if passing <= count {
            state.cut();
            return true;
        }
    }
}

/// From the broker to the client.
async fn down(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, state: &State) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        state.from_broker.fetch_add(count as u64, Ordering::SeqCst);
        if !state.swallow_from_broker.load(Ordering::SeqCst) && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
