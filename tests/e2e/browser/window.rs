//! A real browser, and what a person does in its windows with the chat page.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use e2e::{Launch, Output, ServerProcess, eventually};
use serde_json::{Value, json};
use thirtyfour::prelude::*;
use thirtyfour::{ChromeCapabilities, Key, LoggingPrefsLogLevel, WindowHandle};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The one that the harness gives to everybody, so that a person's other clients can log in, too.
const PASSWORD: &str = "a password";

/// One story at a time: several browsers with several windows each would make a small machine crawl.
static TURN: Semaphore = Semaphore::const_new(1);

const ARGUMENTS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--lang=en-GB",
    // The browser ends with the pipe to its driver, even when a failing test kills that.
    "--remote-debugging-pipe",
];

/// The driver of Chromium, for one story.
pub(crate) struct Browsers {
    driver: ServerProcess,
    _turn: SemaphorePermit<'static>,
}

impl Browsers {
    /// # Panics
    /// When Chromium or its driver is not installed.
    pub(crate) async fn start() -> Self {
        let turn = TURN.acquire().await.unwrap();
        for program in ["chromium", "chromedriver"] {
            let found = Command::new(program).arg("--version").output();
            assert!(
                found.is_ok_and(|output| output.status.success()),
                "{program} does not run. Run tests/run, or: apt-get install -y --no-install-recommends chromium \
                 chromium-driver"
            );
        }
        let launch = Launch {
            program: "chromedriver".into(),
            wrapper: Vec::new(),
            arguments: vec![OsString::from("--port=0")],
            environment: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())],
            ready: "ChromeDriver was started successfully on port ",
        };
        let starting = move || launch.start(&Arc::new(Output::default())).unwrap();
        Self { driver: tokio::task::spawn_blocking(starting).await.unwrap(), _turn: turn }
    }

    /// A browser with nothing remembered.
    pub(crate) async fn open(&self, name: &'static str) -> Window {
        let profile = tempfile::tempdir().unwrap();
        let mut capabilities = ChromeCapabilities::new();
        for argument in ARGUMENTS {
            capabilities.add_arg(argument).unwrap();
        }
        capabilities.add_arg(&format!("--user-data-dir={}", profile.path().display())).unwrap();
        capabilities.add_arg("--window-size=1280,800").unwrap();
        capabilities.set_browser_log_level(LoggingPrefsLogLevel::All).unwrap();
        // A dialog that somebody's message opened must not be waved away.
        capabilities.set("unhandledPromptBehavior", "ignore").unwrap();
        let port = self.driver.ready.rsplit(' ').next().unwrap().trim_end_matches('.');
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities).await.unwrap();
        // Left to itself it would block this thread, on which the test fails, to say good-bye.
        driver.clone().leak().unwrap();
        Window { name, driver, profile }
    }
}

/// A browser in front of one person. It closes with [`Window::close`], or else with [`Browsers`].
pub(crate) struct Window {
    name: &'static str,
    driver: WebDriver,
    profile: tempfile::TempDir,
}

impl Window {
    /// Closes it, after a look at what the page complained about.
    pub(crate) async fn close(self) {
        assert_eq!(self.complaints().await, [""; 0], "{}", self.name);
        self.driver.cmd(thirtyfour::common::command::Command::DeleteSession).await.unwrap();
        self.profile.close().unwrap();
    }

    /// What this expression of JavaScript says.
    pub(crate) async fn eval(&self, expression: &str) -> Value {
        let script = format!("return {expression};");
        self.driver
            .execute(script, Vec::new())
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
            .json()
            .clone()
    }

    /// Waits until this expression is true.
    pub(crate) async fn until(&self, expression: &str) {
        let what = format!("{} to see {expression}", self.name);
        eventually(&what, async || (self.eval(&format!("Boolean({expression})")).await == true).then_some(())).await;
    }

    /// Waits until this expression is that.
    pub(crate) async fn until_is(&self, expression: &str, wanted: Value) {
        let what = format!("{} to see {wanted} as {expression}", self.name);
        eventually(&what, async || (self.eval(expression).await == wanted).then_some(())).await;
    }

    async fn element(&self, selector: &str) -> WebElement {
        let what = format!("{} to see {selector}", self.name);
        eventually(&what, async || {
            let element = self.driver.find(By::Css(selector)).await.ok()?;
            element.is_clickable().await.ok()?.then_some(element)
        })
        .await
    }

    pub(crate) async fn click(&self, selector: &str) {
        self.element(selector).await.click().await.unwrap_or_else(|error| panic!("{}: {selector}: {error}", self.name));
    }

    /// Types into this field, without sending.
    pub(crate) async fn write(&self, selector: &str, text: impl Into<thirtyfour::TypingData>) {
        self.element(selector).await.send_keys(text).await.unwrap();
    }

    /// Presses these keys, wherever the focus is.
    pub(crate) async fn press(&self, keys: impl Into<thirtyfour::TypingData>) {
        self.driver.action_chain().send_keys(keys).perform().await.unwrap();
    }

    pub(crate) async fn visit(&self, address: &str) {
        self.driver.goto(address).await.unwrap();
    }

    pub(crate) async fn reload(&self) {
        self.driver.refresh().await.unwrap();
    }

    /// One more tab, in front of the others.
    pub(crate) async fn new_tab(&self) -> WindowHandle {
        let tab = self.driver.new_tab().await.unwrap();
        self.to_tab(&tab).await;
        tab
    }

    pub(crate) async fn tab(&self) -> WindowHandle {
        self.driver.window().await.unwrap()
    }

    pub(crate) async fn to_tab(&self, tab: &WindowHandle) {
        self.driver.switch_to_window(tab.clone()).await.unwrap();
        self.devtools("Page.bringToFront", json!({})).await;
    }

    /// As somebody who has never been here.
    pub(crate) async fn sign_up(&self, login: &str, name: &str) {
        self.click("#sign-in-switch").await;
        self.write("[name=name]", name).await;
        self.write("[name=login]", login).await;
        self.write("[name=password]", PASSWORD).await;
        self.click("#sign-in-submit").await;
        self.until_online().await;
    }

    pub(crate) async fn log_in(&self, login: &str) {
        self.write("[name=login]", login).await;
        self.write("[name=password]", PASSWORD).await;
        self.click("#sign-in-submit").await;
        self.until_online().await;
    }

    pub(crate) async fn until_online(&self) {
        self.until("document.getElementById('connection').dataset.state === 'online'").await;
    }

    pub(crate) async fn until_offline(&self) {
        self.until("document.getElementById('connection').dataset.state !== 'online'").await;
    }

    /// Finds somebody and begins a private conversation.
    pub(crate) async fn start_private(&self, login: &str) {
        self.click("#new-chat-open").await;
        self.find_person(login).await;
        self.until_open().await;
    }

    pub(crate) async fn start_group(&self, name: &str, logins: &[&str]) {
        self.click("#new-chat-open").await;
        self.click(".segments label:last-child").await;
        self.write("[name=group-name]", name).await;
        for login in logins {
            self.find_person(login).await;
        }
        self.click("#group-create").await;
        self.until_open().await;
    }

    async fn find_person(&self, login: &str) {
        let field = self.element("[name=keyword]").await;
        field.clear().await.unwrap();
        field.send_keys(login).await.unwrap();
        let found = "[...document.querySelectorAll('#found .preview')].map((found) => found.textContent)";
        self.until_is(found, json!([login])).await;
        self.click("#found button").await;
    }

    async fn until_open(&self) {
        self.until("!document.getElementById('conversation').hidden && !document.querySelector('dialog[open]')").await;
    }

    /// Opens the conversation of this title.
    pub(crate) async fn open_conversation(&self, title: &str) {
        let link = format!(
            "[...document.querySelectorAll('#list a')].find((row) => row.querySelector('.row-title').textContent === '{title}')"
        );
        self.until(&link).await;
        self.eval(&format!("{link}.click()")).await;
        self.until_open().await;
    }

    /// Sends a message in the open conversation.
    pub(crate) async fn say(&self, body: &str) {
        self.write("#composer-text", body).await;
        self.press(Key::Enter).await;
    }

    /// The bodies in the open conversation, the oldest first.
    pub(crate) async fn bodies(&self) -> Value {
        self.eval(BODIES).await
    }

    /// Waits until these are the bodies in the open conversation.
    pub(crate) async fn until_bodies(&self, wanted: &[&str]) {
        self.until_is(BODIES, json!(wanted)).await;
    }

    /// Waits until the newest message is in this state: sending, sent, read, failed.
    pub(crate) async fn until_newest_is(&self, status: &str) {
        let newest = "[...document.querySelectorAll('#messages .message')].at(-1)?.dataset.status";
        self.until_is(newest, json!(status)).await;
    }

    /// Waits until the list shows these: title, preview, unread.
    pub(crate) async fn until_list(&self, wanted: Value) {
        let rows = "[...document.querySelectorAll('#list li')].map((row) => \
                    [row.querySelector('.row-title').textContent, row.querySelector('.preview').textContent, \
                    Number(row.dataset.unread)])";
        self.until_is(rows, wanted).await;
    }

    /// What the page complained about, policies it broke included. That the network failed is no complaint.
    async fn complaints(&self) -> Vec<String> {
        let log = self.driver.browser_log().await.unwrap();
        let messages = log.into_iter().map(|entry| entry.message);
        messages
            .filter(|message| !message.contains("WebSocket") && !message.contains("Failed to load resource"))
            .collect()
    }

    /// Makes it a screen of this size, for fingers where it is small.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let is_phone = width < 600;
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        self.devtools("Emulation.setTouchEmulationEnabled", json!({"enabled": is_phone})).await;
    }

    /// `light` or `dark`.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Keeps a picture of what is on the screen.
    pub(crate) async fn picture(&self, path: &Path) {
        // Two frames later everything is painted, and what moves has arrived.
        let painted = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => \
                       Promise.allSettled(document.getAnimations().filter((animation) => \
                       animation.effect.getComputedTiming().iterations !== Infinity).map((animation) => \
                       animation.finished)).then(() => done())));";
        self.driver.execute_async(painted, Vec::new()).await.unwrap();
        self.driver.screenshot(path).await.unwrap();
    }

    async fn devtools(&self, method: &str, parameters: Value) {
        self.driver.cdp().send_raw(method, parameters).await.unwrap();
    }
}

const BODIES: &str = "[...document.querySelectorAll('#messages .message .body')].map((body) => body.textContent)";
