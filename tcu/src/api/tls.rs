//! The local API over TCP, for a workshop's tester or another computer of the vehicle: only in TLS, and
//! only to clients that an authority of the vehicle's owner vouches for. What a client says is recorded
//! under its certificate's fingerprint.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Peer;
use crate::error::Error;
use crate::fetch;

/// The longest time that a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at a time: strangers get no further than here.
const HANDSHAKES: usize = 16;

/// Where the API is served over TCP, and who may use it. None of it can be left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tls {
    /// The address.
    pub listen: SocketAddr,
    /// The server's certificate with those between it and its authority, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The authorities that vouch for clients, PEM.
    pub client_ca: PathBuf,
}

impl Tls {
    fn config(&self) -> Result<ServerConfig, Error> {
        let wrong =
            |path: &PathBuf, what: String| Error::configuration(path)(std::io::Error::other(what));
        let chain = CertificateDer::pem_file_iter(&self.certificate);
        let chain = chain.and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let chain = chain.map_err(|error| wrong(&self.certificate, error.to_string()))?;
        let key = PrivateKeyDer::from_pem_file(&self.key);
        let key = key.map_err(|error| wrong(&self.key, error.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authorities = Arc::new(fetch::authorities(&self.client_ca)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider.clone());
        let verifier = verifier.build();
        let verifier = verifier.map_err(|error| wrong(&self.client_ca, error.to_string()))?;
        let unfit = |error: rustls::Error| wrong(&self.certificate, error.to_string());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(unfit)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Listens. Within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`], [`Error::Fetch`]: a file cannot be used. [`Error::Listen`].
    pub(super) fn listen(&self) -> Result<TlsListener, Error> {
        let acceptor = TlsAcceptor::from(Arc::new(self.config()?));
        let bind = || -> std::io::Result<TcpListener> {
            let listener = std::net::TcpListener::bind(self.listen)?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let failed = |source| Error::Listen {
            address: self.listen,
            source,
        };
        let listener = bind().map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (ready, accepted) = mpsc::channel(1);
        let task = tokio::spawn(shake_hands(listener, acceptor, ready));
        Ok(TlsListener {
            address,
            accepted,
            task,
        })
    }
}

type Accepted = (TlsStream<TcpStream>, SocketAddr);

/// Connections whose clients are known.
#[derive(Debug)]
pub(super) struct TlsListener {
    address: SocketAddr,
    accepted: mpsc::Receiver<Accepted>,
    task: JoinHandle<()>,
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Accepted {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        let (_, session) = stream.io().get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let print = certificate.map(|certificate| ecu_image::crypto::sha256(&[certificate]));
        let print = print.map_or_else(|| "none".into(), |print| print.to_string());
        let from = stream.remote_addr();
        Self(format!(
            "client certificate SHA-256 {print} from {from} by the local API"
        ))
    }
}

/// One handshake does not wait for another: a client that says nothing keeps nobody out.
async fn shake_hands(listener: TcpListener, acceptor: TlsAcceptor, ready: mpsc::Sender<Accepted>) {
    let turns = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        // It is never closed.
        let turn = turns.clone().acquire_owned().await;
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the local API cannot take a connection");
                // As long as there are too many open files.
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            let known = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
            drop(turn);
            match known {
                Ok(Ok(stream)) => {
                    // The API may have ended.
                    let _ = ready.send((stream, from)).await;
                }
                Ok(Err(error)) => tracing::warn!(%from, %error, "refused by the local API"),
                Err(_) => tracing::warn!(%from, "a handshake that takes too long"),
            }
        });
    }
}
