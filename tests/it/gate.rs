//! `Gate`: what stands between the daemon and an issuer, so that a test can stop everything that passes. Shut, it
//! accepts connections and reads nothing, as a host does that was stopped or that hangs.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::spawn_local;

/// A way to an issuer, open at first.
pub(crate) struct Gate {
    /// Where to connect to pass it.
    pub(crate) address: String,
    open: watch::Sender<bool>,
}

impl Gate {
    pub(crate) async fn before(beyond: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (open, opened) = watch::channel(true);
        spawn_local(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut opened = opened.clone();
                spawn_local(async move {
                    // Who is gone has dropped the gate itself.
                    let _ = opened.wait_for(|open| *open).await;
                    let Ok(far) = TcpStream::connect(beyond).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    spawn_local(pass(near_in, far_out, opened.clone()));
                    spawn_local(pass(far_in, near_out, opened));
                });
            }
        });
        Self { address, open }
    }

    pub(crate) fn shut(&self) {
        self.open.send_replace(false);
    }

    /// Everything that came meanwhile passes.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut opened: watch::Receiver<bool>) {
    let mut bytes = [0; 4096];
    loop {
        let _ = opened.wait_for(|open| *open).await;
        let count = from.read(&mut bytes).await.unwrap_or(0);
        let _ = opened.wait_for(|open| *open).await;
        if count == 0 || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
