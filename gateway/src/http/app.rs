//! The chat page and its assets, embedded in the program: `GET /` and `GET /app/*`.
//!
//! The page is plain files (`gateway/app`), served as they are. Browsers ask each time whether they have changed, so
//! that after an update page and modules always fit together. The policies let the page load and reach nothing but
//! this server, and nothing of it is written inline, so no text that somebody typed can ever run.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::header::{REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proto::reason::Reason;

use super::HttpState;
use super::reply::HttpFailure;

/// What the page may load and do. Scripts cannot turn strings into markup at all (trusted types).
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'";

/// On every answer of this file.
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// A file of `gateway/app`.
struct Asset {
    path: &'static str,
    content: &'static [u8],
}

macro_rules! assets {
    ($($path:literal),* $(,)?) => {
        [$(Asset { path: $path, content: include_bytes!(concat!("../../app/", $path)) }),*]
    };
}

static PAGE: Asset = Asset { path: "index.html", content: include_bytes!("../../app/index.html") };
static ASSETS: [Asset; 21] = assets![
    "chat.js",
    "errors.js",
    "format.js",
    "icon.svg",
    "main.js",
    "outbox.js",
    "sender.js",
    "session.js",
    "socket.js",
    "storage.js",
    "store.js",
    "style/base.css",
    "style/conversation.css",
    "style/dialogs.css",
    "style/frame.css",
    "view/conversation.js",
    "view/dom.js",
    "view/list.js",
    "view/messages.js",
    "view/new_chat.js",
    "view/sign_in.js",
];

/// The routes of the page.
pub(super) fn routes() -> Router<HttpState> {
    Router::new().route("/", get(page)).route("/app/{*path}", get(asset))
}

async fn page(headers: HeaderMap) -> Response {
    PAGE.answer(&headers)
}

async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Result<Response, HttpFailure> {
    let asset = ASSETS.iter().find(|asset| asset.path == path).ok_or(Reason::RouteUnknown)?;
    Ok(asset.answer(&headers))
}

impl Asset {
    fn answer(&self, request: &HeaderMap) -> Response {
        let tag = self.tag();
        let is_known = request.get_all(IF_NONE_MATCH).iter().any(|known| names(known, &tag));
        let (status, body) = if is_known {
            (StatusCode::NOT_MODIFIED, Body::empty())
        } else {
            (StatusCode::OK, Body::from(Bytes::from_static(self.content)))
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        for (name, value) in SECURITY_HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(ETAG, HeaderValue::try_from(tag).expect("a quoted number is a header value"));
        response
    }

    /// Changes with the content. It tells versions of a file apart and proves nothing, so a quick hash will do.
    fn tag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.content.hash(&mut hasher);
        format!("\"{:016x}\"", hasher.finish())
    }

    fn content_type(&self) -> &'static str {
        match self.path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "application/octet-stream",
        }
    }
}

/// Whether a line of `If-None-Match` names this tag. Tags weakened by a proxy count.
fn names(line: &HeaderValue, tag: &str) -> bool {
    let known = line.to_str().unwrap_or_default().split(',').map(str::trim);
    known.map(|known| known.strip_prefix("W/").unwrap_or(known)).any(|known| known == tag || known == "*")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn files_below(directory: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_below(&path, root, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_file_of_the_page_is_served() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("app");
        let mut files = BTreeSet::new();
        files_below(&root, &root, &mut files);
        let served: BTreeSet<String> = ASSETS.iter().chain([&PAGE]).map(|asset| asset.path.to_owned()).collect();
        assert_eq!(served, files);
    }

    #[test]
    fn every_file_has_a_type() {
        for asset in ASSETS.iter().chain([&PAGE]) {
            assert_ne!(asset.content_type(), "application/octet-stream", "{}", asset.path);
        }
    }

    #[test]
    fn nothing_of_the_page_is_inline_or_turns_strings_into_markup() {
        let page = std::str::from_utf8(PAGE.content).unwrap();
        for inline in ["<style", "style=", "javascript:", " onclick", " onload", "http:", "https:"] {
            assert!(!page.contains(inline), "{inline}");
        }
        assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=\"/app/").count());
        for asset in ASSETS.iter().filter(|asset| asset.path.ends_with(".js")) {
            let script = std::str::from_utf8(asset.content).unwrap();
            for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
                assert!(!script.contains(sink), "{} in {}", sink, asset.path);
            }
        }
    }

    #[test]
    fn a_tag_is_known_in_every_form_of_the_header() {
        let known = |line: &'static str| names(&HeaderValue::from_static(line), "\"a\"");
        for line in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(known(line), "{line}");
        }
        for line in ["", "\"b\"", "a", "W/\"b\""] {
            assert!(!known(line), "{line}");
        }
    }
}
