//! What operators see on the admin port.

use e2e::{TestStack, eventually};
use reqwest::{Client, Response, StatusCode};

use crate::team::Pair;

async fn get(address: std::net::SocketAddr, path: &str) -> Response {
    Client::new().get(format!("http://{address}{path}")).send().await.unwrap()
}

/// What a process tells of itself on its admin port.
pub(crate) async fn of(admin: std::net::SocketAddr) -> String {
    get(admin, "/metrics").await.text().await.unwrap()
}

/// The sum of a metric's series.
pub(crate) fn sum(metrics: &str, name: &str) -> f64 {
    let values = metrics.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        (series.split('{').next()? == name).then(|| value.parse::<f64>().unwrap())
    });
    values.sum()
}

#[tokio::test]
async fn a_running_server_is_live_and_ready() {
    let stack = TestStack::shared().await;
    for path in ["/live", "/ready"] {
        assert_eq!(get(stack.admin(), path).await.status(), StatusCode::OK, "{path}");
    }
    assert_eq!(get(stack.admin(), "/nowhere").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn metrics_are_prometheus_text_and_move_with_what_happens() {
    let stack = TestStack::builder().start().await;
    let Pair { mut ann, mut bob, cid, .. } = Pair::of(stack.new_organization().await).await;
    ann.send_messages(&cid, (0..10).map(|number| number.to_string())).await;
    bob.expect_message("9").await;
    let answer = get(stack.admin(), "/metrics").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    let metrics = answer.text().await.unwrap();
    for line in metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (_, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in {line:?}"));
        assert!(value.parse::<f64>().is_ok(), "{line:?}");
        assert!(!line.contains(ann.id()) && !line.contains(&cid), "an id in {line:?}");
    }
    assert!(sum(&metrics, "gateway_connections") >= 2.0, "{metrics}");
    drop((ann, bob));
    eventually("the sockets to be gone", async || {
        (sum(&of(stack.admin()).await, "gateway_connections") == 0.0).then_some(())
    })
    .await;
}
