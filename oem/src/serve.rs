//! `oem serve`: the published folders over HTTPS with Range, and hawkBit's DDI for vehicles with a
//! token; nothing else of the repository.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use hyper_util::rt::TokioTimer;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tower_http::services::ServeDir;

use crate::{ddi, error::Error, manifest, time};

/// The folders that are published.
const PUBLISHED: [&str; 3] = ["metadata", "director", "targets"];

/// How long open downloads may go on after the order to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a client may take to send the head of a request, and again for all of it and its answer's
/// head. A download may take longer: its answer has begun.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that listens and waits to be run.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: RustlsConfig,
    app: Router,
    handle: Handle<SocketAddr>,
    patience: Duration,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({})", self.address)
    }
}

impl Server {
    /// Listens on `address` for the repository in `dir`. It takes no lock, since of the
    /// repository it only reads, and a
    /// release while it runs is seen at once. Vehicles are asked to poll every `poll` seconds.
    ///
    /// # Errors
    ///
    /// [`Error::NoRepository`], [`Error::Corrupt`] for unusable certificates, [`Error::System`].
    pub fn bind(dir: &Path, address: SocketAddr, poll: u32) -> Result<Self, Error> {
        if !dir.join("keys/state.json").exists() {
            return Err(Error::NoRepository(dir.to_owned()));
        }
        let app = PUBLISHED
            .iter()
            .fold(ddi::routes(dir, poll)?, |app, folder| {
                let files = ServeDir::new(dir.join(folder)).append_index_html_on_directories(false);
                app.nest_service(&format!("/{folder}"), files)
            });
        let app = app
            .nest("/time", time::routes(dir))
            .nest("/manifest", manifest::routes(dir));
        let tls = TlsFiles {
            certificate: dir.join("keys/tls/server.pem"),
            key: dir.join("keys/tls/server.key"),
            clients: None,
        };
        Self::listen(address, &tls, app)
    }

    /// Listens on `address` for `app`.
    pub(crate) fn listen(address: SocketAddr, tls: &TlsFiles, app: Router) -> Result<Self, Error> {
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = listen().map_err(|error| Error::System {
            what: "listening",
            error,
        })?;
        Ok(Self {
            listener,
            address,
            tls: RustlsConfig::from_config(Arc::new(tls.config()?)),
            app,
            handle: Handle::new(),
            patience: PATIENCE,
        })
    }

    /// The same server, which waits so long for the head of a request, and for the rest of it.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Where clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Stops the server from elsewhere.
    #[must_use]
    pub fn handle(&self) -> Handle<SocketAddr> {
        self.handle.clone()
    }

    /// Serves until SIGINT, SIGTERM or the handle stops it; then open downloads have five seconds.
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    pub async fn run(self) -> Result<(), Error> {
        let system = |what| move |error| Error::System { what, error };
        let handle = self.handle.clone();
        let mut stop = stop_signal().map_err(system("signals"))?;
        tokio::spawn(async move {
            stop.recv().await;
            handle.graceful_shutdown(Some(DRAIN));
        });
        let in_time = middleware::from_fn_with_state(self.patience, in_time);
        let mut server = axum_server::from_tcp_rustls(self.listener, self.tls)
            .map_err(system("serving"))?
            .handle(self.handle);
        let mut http = server.http_builder().http1();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.patience);
        server
            .serve(self.app.layer(in_time).into_make_service())
            .await
            .map_err(system("serving"))
    }
}

/// Who sends slowly, or waits for a desk at work, does not hold a connection for ever.
async fn in_time(State(patience): State<Duration>, request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(patience, next.run(request)).await;
    answer.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
}

/// SIGINT and SIGTERM as one.
struct StopSignal {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl StopSignal {
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn stop_signal() -> std::io::Result<StopSignal> {
    use tokio::signal::unix::{SignalKind, signal};
    Ok(StopSignal {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
    })
}

/// What a server shows, and whom it believes.
pub(crate) struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The authority of the clients' certificates; `None` where anybody may ask.
    pub clients: Option<PathBuf>,
}

impl TlsFiles {
    fn config(&self) -> Result<ServerConfig, Error> {
        let chain = certificates(&self.certificate)?;
        let private = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| Error::corrupt(&self.key, error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let wrong = |error: rustls::Error| Error::corrupt(&self.certificate, error);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(wrong)?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(path) => builder.with_client_cert_verifier(clients(path, provider)?),
        };
        let mut config = builder.with_single_cert(chain, private).map_err(wrong)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| Error::corrupt(path, error))
}

/// Believes clients whose certificate the authority in `path` has signed.
fn clients(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| Error::corrupt(path, error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Error::corrupt(path, error))
}
