//! The page of `explore` in a real browser, driven as a person would: clicks and keys, a sent address, a sent file.
//!
//! Debian has the browser and its driver as `chromium` and `chromium-driver`; where there is none, nothing is tested, and
//! that is said. Screenshots are left in the target directory's `tmp`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_struct-ops-sim");
/// How long something may take to appear.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that ends with the test.
struct Running {
    child: Child,
    /// What was looked for in its first lines.
    found: String,
}

impl Running {
    /// Starts a program and reads what it says until a line has what is looked for; gives what follows it.
    fn start(command: &mut Command, mark: &str) -> std::io::Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let found = lines.map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once(mark)?;
            Some(rest.trim_end_matches('.').to_string())
        });
        let found = found.unwrap_or_else(|| panic!("{command:?} did not say `{mark}`"));
        Ok(Running { child, found })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The log of the browser, which WebDriver has by an extension.
#[derive(Debug)]
struct Log(&'static str);

impl WebDriverCompatibleCommand for Log {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (
            http::Method::POST,
            Some(json!({ "type": self.0 }).to_string()),
        )
    }
}

/// A page in a browser.
struct Page {
    client: Client,
}

impl Page {
    async fn value(&self, script: &str) -> Value {
        let value = self
            .client
            .execute(&format!("return {script}"), vec![])
            .await;
        value.unwrap_or_else(|e| panic!("{script}: {e}"))
    }

    /// The text of an element.
    async fn text(&self, id: &str) -> String {
        let text = self
            .value(&format!("document.getElementById('{id}').textContent"))
            .await;
        text.as_str().unwrap_or_default().to_string()
    }

    /// Waits until an expression is true.
    async fn until(&self, script: &str) {
        let start = Instant::now();
        while self.value(&format!("Boolean({script})")).await != Value::Bool(true) {
            if start.elapsed() > PATIENCE {
                let now = self.text("step").await + &self.text("mistake").await;
                panic!("never: {script}\n{now}");
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn until_text(&self, id: &str, what: &str) {
        let what = Value::from(what);
        self.until(&format!(
            "document.getElementById('{id}').textContent.includes({what})"
        ))
        .await;
    }

    /// Clicks what a selector finds.
    async fn click(&self, selector: &str) {
        let found = self.client.find(Locator::Css(selector)).await;
        let element = found.unwrap_or_else(|e| panic!("{selector}: {e}"));
        element
            .click()
            .await
            .unwrap_or_else(|e| panic!("{selector}: {e}"));
    }

    /// Clicks what an XPath finds.
    async fn click_on(&self, path: &str) {
        let found = self.client.find(Locator::XPath(path)).await;
        let element = found.unwrap_or_else(|e| panic!("{path}: {e}"));
        element
            .click()
            .await
            .unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// Presses a key, wherever the focus is.
    async fn press(&self, key: char) {
        let active = self
            .client
            .active_element()
            .await
            .expect("something has the focus");
        active.send_keys(&key.to_string()).await.expect("a key");
    }

    async fn goto(&self, address: &str) {
        self.client
            .goto(address)
            .await
            .unwrap_or_else(|e| panic!("{address}: {e}"));
    }

    async fn choose(&self, id: &str, value: &str) {
        let select = self.client.find(Locator::Id(id)).await.expect("a list");
        select.select_by_value(value).await.expect("a choice");
    }

    async fn log(&self, kind: &'static str) -> Vec<Value> {
        let log = self.client.issue_cmd(Log(kind)).await.expect("a log");
        log.as_array().cloned().unwrap_or_default()
    }

    /// A screenshot of a window of that size.
    async fn shot(&self, name: &str, width: u32, height: u32) {
        self.client
            .set_window_size(width, height)
            .await
            .expect("a window");
        let png = self.client.screenshot().await.expect("a picture");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("page-{name}-{width}x{height}.png"));
        std::fs::write(path, png).expect("a file");
    }
}

const LEFT: char = '\u{e012}';
const RIGHT: char = '\u{e014}';
const HOME: char = '\u{e011}';
const END: char = '\u{e010}';
const ENTER: char = '\u{e007}';

#[test]
fn the_page_works_in_a_browser() {
    let downloads = tempfile::tempdir().unwrap();
    let driver = Running::start(
        Command::new("chromedriver").arg("--port=0"),
        "successfully on port ",
    );
    let Ok(driver) = driver else {
        println!("SKIPPED: there is no chromedriver (Debian: chromium-driver)");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,720"],
            "prefs": { "download.default_directory": downloads.path() },
        });
        let mut capabilities = serde_json::Map::new();
        capabilities.insert("goog:chromeOptions".into(), options);
        let logs = json!({ "browser": "ALL", "performance": "ALL" });
        capabilities.insert("goog:loggingPrefs".into(), logs);
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let driver = format!("http://127.0.0.1:{}", driver.found);
        let client = builder.capabilities(capabilities).connect(&driver).await;
        let client = client.expect("the driver has a browser");
        let page = Page { client: client.clone() };
        let explore = ["explore", "two-links-tcp", "--design", "rfc"];
        let server = Running::start(Command::new(PROGRAM).args(explore), "http://").unwrap();
        let base = format!("http://{}", server.found);

        by_clicks_alone(&page, &base).await;
        a_sent_address(&page, &base).await;
        by_keys(&page).await;
        a_mistake_has_a_line(&page, &base).await;
        two_designs(&page, &base).await;
        the_nearest_violation(&page, &base).await;
        a_large_scenario(&page, &base).await;
        a_lookup(&page, &base).await;
        a_saved_trace(&page, &base, downloads.path()).await;
        a_sent_file(&page, &base, downloads.path()).await;
        nothing_else_was_asked_for(&page, &base).await;
        let _ = client.close().await;
    });
}

/// Finds the shortest counterexample, and takes its steps again one click at a time.
async fn by_clicks_alone(page: &Page, base: &str) {
    page.goto(base).await;
    page.until_text("count", "step 0 of 0").await;
    page.shot("start", 1280, 720).await;
    page.click("#search").await;
    page.until("[...document.querySelectorAll('#found button')].some((b) => b.textContent.startsWith('cookie-fidelity'))").await;
    page.click_on("//*[@id='found']/button[starts-with(., 'cookie-fidelity')]")
        .await;
    page.until_text("step", "cookie-fidelity").await;
    page.shot("counterexample", 1280, 720).await;
    page.shot("counterexample", 1920, 1080).await;
    let path = page
        .value("new URLSearchParams(location.hash.slice(1)).get('path')")
        .await;
    let path = path.as_str().unwrap().to_string();
    assert!(path.len() > 8, "{path}");

    page.goto("about:blank").await;
    page.goto(base).await;
    page.until_text("count", "step 0 of 0").await;
    for (i, choice) in path.chars().enumerate() {
        page.click(&format!("#choices button[data-choice='{choice}']"))
            .await;
        page.until_text("count", &format!("step {} of {}", i + 1, i + 1))
            .await;
    }
    page.until_text("step", "WRONG COOKIE").await;
    assert!(page.text("step").await.contains("✗ breaks cookie-fidelity"));
    page.click("#back").await;
    page.until_text(
        "count",
        &format!("step {} of {}", path.len() - 1, path.len()),
    )
    .await;
    assert!(!page.text("step").await.contains("breaks cookie-fidelity"));
    page.click("#start").await;
    page.click("#next").await;
    page.until_text("step", "✗ breaks").await;
    // Another interleaving: the other CPU first. What came after is not there any more.
    page.click("#start").await;
    page.click(".actor.a1 button[data-choice]").await;
    page.until_text("count", "step 1 of 1").await;
    page.until_text("step", "sock_call 0 ssthresh").await;
}

async fn a_sent_address(page: &Page, base: &str) {
    let address = format!("{base}#scenario=two-links-tcp&design=rfc&path=000000001111&at=5");
    page.goto("about:blank").await;
    page.goto(&address).await;
    page.until_text("count", "step 5 of 12").await;
    page.until_text("step", "trampoline with cookie 0x22").await;
    // A box keeps its place from step to step.
    let place = "(() => { const b = document.querySelector('[data-shape=map0] .body'); return b.getAttribute('x') + ' ' + b.getAttribute('y'); })()";
    let before = page.value(place).await;
    page.click("#end").await;
    page.until_text("count", "step 12 of 12").await;
    assert_eq!(page.value(place).await, before);
    // A click on the timeline goes there.
    page.click("#left .step[data-step='7']").await;
    page.until_text("count", "step 7 of 12").await;
}

async fn by_keys(page: &Page) {
    page.press(HOME).await;
    page.until_text("count", "step 0 of 12").await;
    page.press(RIGHT).await;
    page.press(RIGHT).await;
    page.until_text("count", "step 2 of 12").await;
    page.press(LEFT).await;
    page.until_text("count", "step 1 of 12").await;
    page.press('n').await;
    page.until_text("step", "✗ breaks ksyms-match-images").await;
    page.press(END).await;
    page.until_text("count", "step 12 of 12").await;
    let theme = page
        .value("document.documentElement.dataset.theme ?? ''")
        .await;
    page.press('t').await;
    page.until(&format!(
        "(document.documentElement.dataset.theme ?? '') !== {theme}"
    ))
    .await;
    page.shot("dark", 1280, 720).await;
    page.press('t').await;
    page.press('?').await;
    page.until("!document.getElementById('keys').hidden").await;
    page.press('?').await;
    page.press(HOME).await;
    page.press('2').await;
    page.until_text("count", "step 1 of 1").await;
    // By Tab and Enter: the focus stays among the choices.
    page.value("document.querySelector('#choices button[data-choice]').focus({})")
        .await;
    page.press(ENTER).await;
    page.until_text("count", "step 2 of 2").await;
    page.press(ENTER).await;
    page.until_text("count", "step 3 of 3").await;
}

async fn a_mistake_has_a_line(page: &Page, base: &str) {
    page.goto("about:blank").await;
    page.goto(base).await;
    page.until_text("count", "step 0 of 0").await;
    page.click("#edit").await;
    let text = page.client.find(Locator::Id("text")).await.unwrap();
    text.send_keys("\nnonsense = 1\n").await.unwrap();
    page.click("#run").await;
    page.until_text("mistake", "nonsense").await;
    let line = page
        .value("document.querySelector('#lines mark').textContent")
        .await;
    let last = page
        .value("document.getElementById('text').value.split('\\n').indexOf('nonsense = 1') + 1")
        .await;
    assert_eq!(line.as_str().unwrap(), last.to_string());
    page.shot("mistake", 1280, 720).await;
    // Without the mistake it runs, and the address has the text.
    page.value("document.getElementById('text').value = document.getElementById('text').value.replace('nonsense = 1', '')").await;
    page.click("#run").await;
    page.until("location.hash.includes('text=')").await;
    page.until_text("count", "step 0 of 0").await;
    let address = page.client.current_url().await.unwrap();
    page.goto("about:blank").await;
    page.goto(address.as_str()).await;
    page.until_text("heading", "mine under rfc").await;
}

async fn two_designs(page: &Page, base: &str) {
    page.goto("about:blank").await;
    page.goto(&format!(
        "{base}#scenario=two-links-tcp&design=rfc&path=000000001111"
    ))
    .await;
    page.until_text("count", "step 12 of 12").await;
    page.choose("beside", "link-owned").await;
    page.until("document.querySelectorAll('.half').length === 2")
        .await;
    page.until("document.querySelectorAll('.step.differs').length > 0")
        .await;
    page.until("document.querySelectorAll('.shape.differs').length > 0")
        .await;
    page.shot("beside", 1280, 720).await;
    page.shot("beside", 1920, 1080).await;
    page.click("#back").await;
    page.until_text("count", "step 11 of 12").await;
    page.choose("beside", "").await;
    page.until("document.querySelectorAll('.half').length === 0")
        .await;
}

async fn the_nearest_violation(page: &Page, base: &str) {
    page.goto("about:blank").await;
    page.goto(&format!(
        "{base}#scenario=two-links-tcp&design=rfc&path=0000"
    ))
    .await;
    page.until_text("count", "step 4 of 4").await;
    page.click("#next").await;
    page.until_text("step", "✗ breaks").await;
    let path = page
        .value("new URLSearchParams(location.hash.slice(1)).get('path')")
        .await;
    assert!(path.as_str().unwrap().starts_with("0000"), "{path}");
}

/// Nobody explores what is only stepped; an exploration of millions of states shows how far it is, and can be stopped.
async fn a_large_scenario(page: &Page, base: &str) {
    page.goto("about:blank").await;
    page.goto(&format!(
        "{base}#scenario=universe-tcp-3cpu-x3&design=link-owned&path="
    ))
    .await;
    page.until_text("count", "step 0 of 0").await;
    for step in 1..=6 {
        page.click("#choices button[data-choice]").await;
        page.until_text("count", &format!("step {step} of {step}"))
            .await;
    }
    page.shot("large", 1280, 720).await;
    page.click("#search").await;
    let states = "Number((document.getElementById('found').textContent.match(/^([\\d,]+) states, depth/)?.[1] ?? '0').replaceAll(',', ''))";
    page.until(&format!("{states} > 1000")).await;
    let before = page.value(states).await;
    page.until(&format!("{states} > {before}")).await;
    assert_eq!(page.text("search").await, "Stop");
    page.click("#search").await;
    page.until_text("found", "not all").await;
    page.until_text("search", "Shortest counterexamples").await;
    // And it can be stepped on from there.
    page.click("#choices button[data-choice]").await;
    page.until_text("count", "step 7 of 7").await;
}

/// A scenario of the other kind: chosen from the list, with the designs under which it has a meaning.
async fn a_lookup(page: &Page, base: &str) {
    page.goto("about:blank").await;
    page.goto(base).await;
    page.until_text("count", "step 0 of 0").await;
    let designs = "[...document.getElementById('design').options].map((o) => o.value).join(' ')";
    assert!(!page.value(designs).await.as_str().unwrap().contains("task"));
    page.choose("scenario", "timer-over-program").await;
    page.until_text("heading", "timer-over-program under rfc")
        .await;
    assert!(page.value(designs).await.as_str().unwrap().contains("task"));
    page.choose("design", "task").await;
    page.until_text("heading", "timer-over-program under task")
        .await;
    page.click("#search").await;
    page.until("document.querySelectorAll('#found button').length === 1")
        .await;
    page.click("#found button").await;
    page.until_text("step", "✗ breaks no-other-scheduler").await;
    page.until("document.querySelector('[data-shape=sched0]')")
        .await;
    page.shot("lookup", 1280, 720).await;
    page.click("#back").await;
    page.until("!document.getElementById('step').textContent.includes('breaks')")
        .await;
    page.click("#start").await;
    page.click("#choices button[data-choice]").await;
    page.until_text("count", "step 1 of").await;
    page.choose("beside", "association").await;
    page.until("document.querySelectorAll('.half').length === 2")
        .await;
    page.click("#next").await;
    page.until_text("step", "✗ breaks no-other-scheduler").await;
    page.shot("lookup-beside", 1280, 720).await;
}

async fn a_saved_trace(page: &Page, base: &str, folder: &Path) {
    let attach = ["two-links-tcp", "mainline", ""];
    let lookup = ["timer-over-program", "task", "--path=0000001"];
    for (name, [scenario, design, path]) in [("lookup", lookup), ("attach", attach)] {
        let file = folder.join(format!("{name}.json"));
        let mut run = Command::new(PROGRAM);
        run.args(["run", scenario, "--design", design]);
        run.args(Some(path).filter(|p| !p.is_empty()));
        let saved = run.arg("--save").arg(&file).output().unwrap();
        assert!(saved.status.success(), "{saved:?}");
        opened(page, base, &file, scenario, design).await;
    }
}

async fn opened(page: &Page, base: &str, file: &Path, scenario: &str, design: &str) {
    page.goto("about:blank").await;
    page.goto(base).await;
    page.until_text("count", "step 0 of 0").await;
    let input = page.client.find(Locator::Id("file")).await.unwrap();
    input.send_keys(file.to_str().unwrap()).await.unwrap();
    page.until_text("heading", &format!("{scenario} under {design}"))
        .await;
    page.until(&format!("location.hash.includes('design={design}')"))
        .await;
}

async fn a_sent_file(page: &Page, base: &str, folder: &Path) {
    page.goto("about:blank").await;
    page.goto(&format!(
        "{base}#scenario=two-links-tcp&design=rfc&path=000000001111&beside=link-owned"
    ))
    .await;
    page.until_text("count", "step 12 of 12").await;
    page.click("#send").await;
    page.click_on("//*[@id='ways']/button[. = 'One HTML file']")
        .await;
    let file: PathBuf = folder.join("two-links-tcp-rfc.html");
    let start = Instant::now();
    while !file.exists() {
        assert!(start.elapsed() < PATIENCE, "no file was saved");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    page.goto(&format!("file://{}", file.display())).await;
    page.until_text("count", "step 12 of 12").await;
    page.until("document.querySelectorAll('.half').length === 2")
        .await;
    page.press(LEFT).await;
    page.until_text("count", "step 11 of 12").await;
    page.until_text("step", "kallsyms does not know this trampoline")
        .await;
    assert_eq!(
        page.value("document.querySelector('#choose').offsetParent")
            .await,
        Value::Null
    );
    page.shot("sent", 1280, 720).await;
}

async fn nothing_else_was_asked_for(page: &Page, base: &str) {
    for entry in page.log("browser").await {
        // The mistake in the scenario was answered with a status that the browser notes.
        let expected = entry["message"].as_str().is_some_and(|m| m.contains("422"));
        assert!(entry["level"] != "SEVERE" || expected, "{entry}");
    }
    let mut asked = 0;
    for entry in page.log("performance").await {
        let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
        if message["message"]["method"] != "Network.requestWillBeSent" {
            continue;
        }
        let address = message["message"]["params"]["request"]["url"]
            .as_str()
            .unwrap();
        let own = [base, "file://", "data:", "blob:", "about:"];
        assert!(own.iter().any(|own| address.starts_with(own)), "{address}");
        asked += usize::from(address.starts_with(base));
    }
    assert!(asked > 10, "the log of requests is empty");
}

/// A request as its text says, and the first line of the answer and its body.
fn asked(address: &str, request: &str) -> (String, String) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let line = head.lines().next().unwrap_or_default();
    (line.to_string(), body.to_string())
}

#[test]
fn strangers_and_mistakes_are_refused() {
    let explore = ["explore", "two-links-tcp", "--design", "rfc"];
    let server = Running::start(Command::new(PROGRAM).args(explore), "http://").unwrap();
    let address = server.found.trim_end_matches('/');
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let get = |host: &str, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        asked(address, &request)
    };
    let localhost = address.replace("127.0.0.1", "localhost");
    for host in [address, &localhost] {
        assert!(get(host, "/").0.contains("200"), "{host}");
    }
    // Another name that somebody has made to mean this machine.
    for host in ["example.org", "127.0.0.1", "127.0.0.1.example.org:80", ""] {
        assert!(get(host, "/").0.contains("421"), "{host}");
    }
    for path in [
        "/etc/passwd",
        "/../../etc/passwd",
        "/api",
        "/api/search/1",
        "/api/search/x",
    ] {
        assert!(get(address, path).0.contains("404"), "{path}");
    }
    let post = |path: &str, kind: &str, origin: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: {origin}\r\nContent-Type: {kind}\r\nContent-Length: \
             {length}\r\nConnection: close\r\n\r\n{body}"
        );
        asked(address, &request)
    };
    let us = format!("http://{address}");
    let json = "application/json";
    let wanted = r#"{"scenario":"two-links-tcp","design":"rfc","path":"00"}"#;
    assert!(post("/api/view", json, &us, wanted).0.contains("200"));
    assert!(
        post("/api/view", json, "http://example.org", wanted)
            .0
            .contains("400")
    );
    assert!(
        post("/api/view", "text/plain", &us, wanted)
            .0
            .contains("400")
    );
    assert!(post("/api/view", json, &us, "{").0.contains("400"));
    for (wrong, found) in [
        (
            r#"{"scenario":"/etc/passwd","design":"rfc"}"#,
            "unknown scenario",
        ),
        (
            r#"{"scenario":"two-links-tcp","design":"rfd"}"#,
            "did you mean",
        ),
        (
            r#"{"scenario":"two-links-tcp","design":"rfc","path":"9"}"#,
            "there is no choice 9",
        ),
        (
            r#"{"scenario":"two-links-tcp","design":"rfc","path":"-"}"#,
            "expected a digit",
        ),
        (
            r#"{"scenario":"a","toml":"title = 1","design":"rfc"}"#,
            "\"line\":1",
        ),
    ] {
        let (line, body) = post("/api/view", json, &us, wrong);
        assert!(
            line.contains("422") && body.contains(found),
            "{wrong}: {line} {body}"
        );
    }
}
