//! The page's web server: on 127.0.0.1 alone, for whoever asks by that name, with nothing from anywhere else.
//!
//! It keeps no run: a request says scenario, design and path, and the answer is all that there is to show. What goes on
//! in it is a search at most. Not here: what is shown (`view`), and how to explore (`search`).

mod search;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use struct_ops_model::Design;
use struct_ops_model::design::PRESETS;

use crate::input;
use crate::report::screen::Screen;
use crate::scenario::{Case, InputError};
use crate::shipped;
use crate::tracefile::File;
use crate::view::{self, Shown, html, svg};
use crate::walk;

use search::Search;

/// Where the page begins.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Begin {
    /// A shipped scenario; empty if there is a text.
    pub scenario: String,
    /// The text of another one.
    pub toml: String,
    /// The design.
    pub design: String,
    /// The design beside it; empty for none.
    pub beside: String,
    /// The steps, as [`walk::write_path`] writes them.
    pub path: String,
    /// The step that is shown.
    pub at: usize,
}

/// What a page asks to be shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    /// The name of a shipped scenario, or of the text.
    scenario: String,
    /// The text of a scenario; empty for a shipped one.
    toml: String,
    design: String,
    beside: String,
    path: String,
    /// For a search: what breaks next after the path, not what breaks at all.
    nearest: bool,
}

/// A saved trace.
#[derive(Debug, Deserialize)]
struct Saved {
    name: String,
    text: String,
}

/// What is wrong with what was asked.
#[derive(Debug, Serialize)]
struct Mistake {
    message: String,
    line: Option<usize>,
    column: Option<usize>,
}

impl From<InputError> for Mistake {
    fn from(error: InputError) -> Self {
        Mistake {
            line: error.place.as_ref().map(|p| p.line),
            column: error.place.as_ref().map(|p| p.column),
            message: error.to_string(),
        }
    }
}

/// The server.
#[derive(Debug)]
pub struct Server {
    begin: Begin,
    port: u16,
    screen: Screen,
    searches: Mutex<BTreeMap<u64, Arc<Search>>>,
}

/// What an answer is made of.
struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: Vec<u8>,
}

fn text(kind: &'static str, body: impl Into<Vec<u8>>) -> Answer {
    Answer {
        status: StatusCode::OK,
        kind,
        body: body.into(),
    }
}

fn refused(status: StatusCode, why: &str) -> Answer {
    Answer {
        status,
        ..text("text/plain; charset=utf-8", why)
    }
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => text("application/json", body),
        Err(why) => refused(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
    }
}

fn judged<T: Serialize>(result: Result<T, Mistake>) -> Answer {
    match result {
        Ok(value) => json(&value),
        Err(mistake) => Answer {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            ..json(&mistake)
        },
    }
}

/// What the page may load: its own files, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Server {
    /// A server for a page that begins there, on a socket that listens at `port`.
    pub fn new(begin: Begin, port: u16, screen: Screen) -> Self {
        Server {
            begin,
            port,
            screen,
            searches: Mutex::default(),
        }
    }

    /// Answers until `ended` says that it is enough.
    ///
    /// # Errors
    /// What the system says.
    pub fn run(
        self,
        listener: std::net::TcpListener,
        ended: impl Fn() -> bool,
    ) -> std::io::Result<()> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let server = Arc::new(self);
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let local = tokio::task::LocalSet::new();
            let accept = local.run_until(async {
                loop {
                    let Ok((stream, _)) = listener.accept().await else {
                        // Too many connections, or one that has gone: others may come.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    };
                    let server = server.clone();
                    tokio::task::spawn_local(async move {
                        let service = service_fn(|request| server.clone().answer(request));
                        let connection = http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(Duration::from_secs(30))
                            .serve_connection(TokioIo::new(stream), service);
                        if let Err(why) = connection.await {
                            tracing::debug!(%why, "a connection ended");
                        }
                    });
                }
            });
            let end = async {
                while !ended() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            tokio::pin!(accept);
            tokio::pin!(end);
            std::future::poll_fn(|cx| {
                use std::task::Poll;
                let _: Poll<()> = accept.as_mut().poll(cx);
                end.as_mut().poll(cx)
            })
            .await;
            Ok(())
        })
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let answer = self.judge(request).await;
        let mut response = Response::new(Full::new(answer.body.into()));
        *response.status_mut() = answer.status;
        for (name, value) in [
            (header::CONTENT_TYPE, answer.kind),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-store"),
        ] {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        Ok(response)
    }

    /// Whether a header names this server, and not another one that has our address.
    fn is_us(&self, host: &str) -> bool {
        is_us(self.port, host)
    }

    async fn judge(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let value = |name: header::HeaderName| head.headers.get(name).and_then(|v| v.to_str().ok());
        if !value(header::HOST).is_some_and(|host| self.is_us(host)) {
            let why = "This server answers to 127.0.0.1 and localhost alone.\n";
            return refused(StatusCode::MISDIRECTED_REQUEST, why);
        }
        let path = head.uri.path().trim_start_matches('/');
        if head.method == Method::GET || head.method == Method::HEAD {
            return self.get(path);
        }
        let origin = value(header::ORIGIN).is_none_or(|o| {
            o.strip_prefix("http://")
                .is_some_and(|host| self.is_us(host))
        });
        let typed = value(header::CONTENT_TYPE) == Some("application/json");
        if head.method != Method::POST || !origin || !typed {
            return refused(
                StatusCode::BAD_REQUEST,
                "expected POST of application/json from this page\n",
            );
        }
        let body = Limited::new(body, input::TRACE as usize + (1 << 20))
            .collect()
            .await;
        let Ok(body) = body else {
            return refused(StatusCode::PAYLOAD_TOO_LARGE, "too much\n");
        };
        self.post(path, &body.to_bytes())
    }

    fn get(&self, path: &str) -> Answer {
        let script = html::MODULES.iter().find(|m| m.0 == path);
        match path {
            "" => text("text/html; charset=utf-8", html::PAGE),
            "page.css" => text("text/css; charset=utf-8", html::STYLE),
            "picture.css" => text("text/css; charset=utf-8", svg::STYLE),
            "api/catalog" => json(&Catalog::new()),
            "api/begin" => json(&self.begin),
            _ if script.is_some() => {
                let module = script.map_or("", |m| m.1);
                text("text/javascript; charset=utf-8", module)
            }
            _ => match path
                .strip_prefix("api/search/")
                .and_then(|n| self.search(n))
            {
                Some(search) => json(&search.state()),
                None => refused(StatusCode::NOT_FOUND, "there is nothing here\n"),
            },
        }
    }

    fn search(&self, number: &str) -> Option<Arc<Search>> {
        let searches = self.searches.lock().unwrap_or_else(PoisonError::into_inner);
        searches.get(&number.parse().ok()?).cloned()
    }

    fn post(&self, path: &str, body: &[u8]) -> Answer {
        if let Some(number) = path
            .strip_prefix("api/search/")
            .and_then(|p| p.strip_suffix("/stop"))
        {
            return match self.search(number) {
                Some(search) => {
                    search.stop();
                    json(&search.state())
                }
                None => refused(StatusCode::NOT_FOUND, "there is no such search\n"),
            };
        }
        if path == "api/trace" {
            return match serde_json::from_slice(body) {
                Ok(saved) => judged(self.opened(&saved)),
                Err(why) => refused(StatusCode::BAD_REQUEST, &why.to_string()),
            };
        }
        let wanted: Wanted = match serde_json::from_slice(body) {
            Ok(wanted) => wanted,
            Err(why) => return refused(StatusCode::BAD_REQUEST, &why.to_string()),
        };
        match path {
            "api/view" => judged(self.shown(&wanted)),
            "api/export" => match self.file(&wanted) {
                Ok(page) => text("text/html; charset=utf-8", page),
                Err(mistake) => judged::<()>(Err(mistake)),
            },
            "api/search" => judged(self.begin_search(&wanted)),
            _ => refused(StatusCode::NOT_FOUND, "there is nothing here\n"),
        }
    }

    fn shown(&self, wanted: &Wanted) -> Result<Shown, Mistake> {
        let (case, design) = wanted.subject()?;
        let beside = match wanted.beside.as_str() {
            "" => None,
            name => Some(read_design(name)?),
        };
        let run = view::chosen(&case, &design, &wanted.path()?, "path")?;
        Ok(Shown::new(&*run, beside.as_ref(), &self.screen)?)
    }

    fn file(&self, wanted: &Wanted) -> Result<String, Mistake> {
        let shown = self.shown(wanted)?;
        let title = shown.view.heading.clone();
        let page = html::file(&title, &shown.to_send());
        Ok(page.map_err(|e| InputError::whole("page", e.to_string()))?)
    }

    fn opened(&self, saved: &Saved) -> Result<Shown, Mistake> {
        let replayed = File::parse(&saved.name, &saved.text)?.replay(&saved.name, None)?;
        let Some(case) = replayed.file.case_inside() else {
            let message = "the run behind a cell of `reach` has no scenario: `replay` prints it";
            return Err(InputError::whole(&saved.name, message).into());
        };
        let case = case?;
        let run = view::again(&case, &replayed.design, &replayed.trace)?;
        Ok(Shown::new(&*run, None, &self.screen)?)
    }

    fn begin_search(&self, wanted: &Wanted) -> Result<BTreeMap<&'static str, u64>, Mistake> {
        let (case, design) = wanted.subject()?;
        let path = wanted.path()?;
        let no = |e: walk::NoSuchChoice| InputError::whole("path", e.to_string());
        let steps = walk::machine(&case, &design)?.chosen(&path).map_err(no)?;
        let nearest = wanted.nearest;
        let search = Search::begin(move |its| match nearest {
            true => its.nearest(&case, &design, &steps),
            false => its.whole(&case, &design),
        });
        let mut searches = self.searches.lock().unwrap_or_else(PoisonError::into_inner);
        // One at a time, and the last one is there to be asked.
        for (_, old) in std::mem::take(&mut *searches) {
            old.stop();
        }
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        searches.insert(number, search);
        Ok(BTreeMap::from([("job", number)]))
    }
}

/// Whether a host, with the port that goes with it, is this server. Whoever asks port 80 does not name it.
fn is_us(port: u16, host: &str) -> bool {
    ["127.0.0.1", "localhost"].iter().any(|name| {
        let usual = port == 80 && host == *name;
        usual || host == format!("{name}:{port}")
    })
}

/// Numbers of searches.
static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);

fn read_design(name: &str) -> Result<Design, InputError> {
    Design::parse(name).map_err(|e| InputError::whole("design", e.to_string()))
}

impl Wanted {
    fn subject(&self) -> Result<(Case, Design), InputError> {
        let design = read_design(&self.design)?;
        let case = match self.toml.as_str() {
            // The name of a shipped one: no page reads files.
            "" if shipped::names().contains(&self.scenario.as_str()) => {
                shipped::find_case(&self.scenario)?
            }
            "" => {
                let all = shipped::names();
                let message = crate::scenario::unknown("scenario", &self.scenario, all);
                return Err(InputError::whole("scenario", message));
            }
            text => {
                let name = if self.scenario.is_empty() {
                    "mine"
                } else {
                    &self.scenario
                };
                Case::parse(name, &format!("{name}.toml"), text)?
            }
        };
        Ok((case, design))
    }

    fn path(&self) -> Result<Vec<usize>, InputError> {
        walk::read_path(&self.path).map_err(|e| InputError::whole("path", e))
    }
}

/// What there is to choose from.
#[derive(Debug, Serialize)]
struct Catalog {
    scenarios: Vec<Offered>,
    designs: Vec<BTreeMap<&'static str, String>>,
}

/// A scenario, and the designs under which it has a meaning.
#[derive(Debug, Serialize)]
struct Offered {
    name: String,
    title: String,
    designs: Vec<String>,
}

impl Catalog {
    fn new() -> Self {
        let presets = Design::presets();
        let offered = |case: Case| Offered {
            designs: presets
                .iter()
                .filter(|d| case.runs_under(d, false))
                .map(|d| d.name.clone())
                .collect(),
            name: case.head().name.clone(),
            title: case.head().title.clone(),
        };
        let cases = shipped::all().unwrap_or_default().into_iter();
        let about = |(name, about): &(&str, &str)| {
            BTreeMap::from([("name", name.to_string()), ("about", about.to_string())])
        };
        Catalog {
            scenarios: cases.map(offered).collect(),
            designs: PRESETS.iter().map(about).collect(),
        }
    }
}

/// A socket of this machine's own: the port that was asked for, or the usual one, or any that is free.
///
/// # Errors
/// What the system says.
pub fn listen(port: Option<u16>) -> std::io::Result<(std::net::TcpListener, u16)> {
    let bind = |port| std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let listener = match port {
        Some(port) => bind(port)?,
        None => bind(PORT).or_else(|_| bind(0))?,
    };
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// The usual port.
pub const PORT: u16 = 7617;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_us_by_name_and_port() {
        for (port, host, us) in [
            (7617, "127.0.0.1:7617", true),
            (7617, "localhost:7617", true),
            (7617, "localhost", false),
            (7617, "localhost:80", false),
            (7617, "example.org:7617", false),
            (80, "127.0.0.1", true),
            (80, "localhost:80", true),
            (80, "example.org", false),
        ] {
            assert_eq!(is_us(port, host), us, "{host} at {port}");
        }
    }
}
