//! Calls to real servers on this machine, which answer as a test wants them to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use clap::Parser;
use components::Proxy;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use proto::v1::messaging_server::{Messaging, MessagingServer};
use proto::v1::send_stream_response::Outcome;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Streaming;

use super::*;
use crate::config::RemoteConfig;

const TOKEN: &str = "0123456789abcdef";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    core: RemoteConfig,
}

/// What a call is answered with.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Success,
    Failure(Reason),
    Nothing,
}

/// What a core has seen of a call.
#[derive(Clone, PartialEq, Debug)]
struct Seen {
    hop: u32,
    frame: u64,
    authorization: Option<String>,
}

#[derive(Default)]
struct Script {
    seen: Mutex<Vec<Seen>>,
    /// The next answers; success after them.
    answers: Mutex<VecDeque<Answer>>,
}

/// A core of one conversation service. It lives in a runtime of its own, so that it can die with all its connections.
struct TestCore {
    address: SocketAddr,
    script: Arc<Script>,
    runtime: Option<Runtime>,
}

impl TestCore {
    async fn start() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut core = Self { address, script: Arc::default(), runtime: None };
        core.restart();
        core
    }

    fn restart(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (address, script) = (self.address, Arc::clone(&self.script));
        let entered = runtime.enter();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
        drop(entered);
        runtime.handle().spawn(async move {
            let (_, health) = tonic_health::server::health_reporter();
            tonic::transport::Server::builder()
                .add_service(health)
                .add_service(MessagingServer::new(Scripted(script)))
                .serve_with_incoming(incoming)
                .await
        });
        self.runtime = Some(runtime);
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    fn answer_next(&self, answer: Answer) {
        self.script.answers.lock().unwrap().push_back(answer);
    }

    /// What it has seen since the last look.
    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.script.seen.lock().unwrap())
    }

    fn hops(&self) -> Vec<u32> {
        self.seen().into_iter().map(|seen| seen.hop).collect()
    }

    async fn sees_a_call(&self) {
        eventually(|| !self.script.seen.lock().unwrap().is_empty()).await;
    }
}

impl Drop for TestCore {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Script {
    async fn answer<T: Default>(
        &self,
        metadata: &tonic::metadata::MetadataMap,
        caller: Option<v1::Caller>,
    ) -> Result<Response<T>, Status> {
        let caller = caller.unwrap_or_default();
        let authorization = metadata.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let frame = caller.attempt.unwrap_or_default().frame;
        self.seen.lock().unwrap().push(Seen { hop: caller.hop, frame, authorization });
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Success);
        match answer {
            Answer::Success => Ok(Response::new(T::default())),
            Answer::Failure(reason) => Err(Failure::from(reason).into()),
            Answer::Nothing => std::future::pending().await,
        }
    }
}

/// A service that answers as its script says.
struct Scripted(Arc<Script>);

#[tonic::async_trait]
impl Messaging for Scripted {
    async fn send(&self, _: Request<v1::SendMessageRequest>) -> Result<Response<v1::SendMessageResponse>, Status> {
        Err(Status::unimplemented("sends come in a stream"))
    }

    type SendStreamStream = BoxStream<'static, Result<v1::SendStreamResponse, Status>>;

    async fn send_stream(
        &self,
        request: Request<Streaming<v1::SendStreamRequest>>,
    ) -> Result<Response<Self::SendStreamStream>, Status> {
        let metadata = Arc::new(request.metadata().clone());
        let script = Arc::clone(&self.0);
        let answers = request.into_inner().map(move |send| {
            let (script, metadata) = (Arc::clone(&script), Arc::clone(&metadata));
            async move {
                let v1::SendStreamRequest { number, request, .. } = send?;
                let outcome = match script.answer(&metadata, request.unwrap_or_default().caller).await {
                    Ok(sent) => Outcome::Sent(sent.into_inner()),
                    Err(status) => Outcome::Failed(status.into()),
                };
                Ok(v1::SendStreamResponse { number, outcome: Some(outcome) })
            }
        });
        Ok(Response::new(answers.buffer_unordered(100).boxed()))
    }

    async fn list(
        &self,
        request: Request<v1::ListMessagesRequest>,
    ) -> Result<Response<v1::ListMessagesResponse>, Status> {
        let metadata = request.metadata().clone();
        self.0.answer(&metadata, request.into_inner().caller).await
    }

    async fn mark_read(&self, request: Request<v1::MarkReadRequest>) -> Result<Response<v1::MarkReadResponse>, Status> {
        let metadata = request.metadata().clone();
        self.0.answer(&metadata, request.into_inner().caller).await
    }

    async fn send_typing(
        &self,
        request: Request<v1::SendTypingRequest>,
    ) -> Result<Response<v1::SendTypingResponse>, Status> {
        let metadata = request.metadata().clone();
        self.0.answer(&metadata, request.into_inner().caller).await
    }
}

async fn eventually(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("it holds in the end");
}

/// A gateway's side.
struct Calling {
    core: CoreClient,
    replicas: Arc<Replicas>,
    _watch: JoinSet<std::convert::Infallible>,
}

impl Calling {
    /// At these addresses, with this deadline for one replica, once so many are healthy.
    async fn start(addresses: &[String], milliseconds: u64, healthy: usize) -> Self {
        let addresses = format!("--core-addresses=http://{}", addresses.join(",http://"));
        let deadline = format!("--core-deadline-milliseconds={milliseconds}");
        let config = Cli::parse_from(["test", &addresses, &deadline, &format!("--core-gateway-token={TOKEN}")]).core;
        let replicas = Replicas::new(&config).unwrap();
        let mut watch = JoinSet::new();
        watch.spawn(Arc::clone(&replicas).watch());
        eventually(|| replicas.healthy_connections() == healthy * replicas::CONNECTIONS).await;
        Self { core: CoreClient::remote(Arc::clone(&replicas)), replicas, _watch: watch }
    }

    async fn to(cores: &[&TestCore]) -> Self {
        let addresses: Vec<_> = cores.iter().map(|core| core.address.to_string()).collect();
        Self::start(&addresses, 1_000, cores.len()).await
    }
}

fn caller() -> Option<v1::Caller> {
    let session = v1::BoundSession { session_id: Bytes::from_static(&[1; 24]) };
    let attempt = v1::Attempt { connection_id: Bytes::from_static(&[2; 12]), frame: 7 };
    Some(v1::Caller { actor: Some(v1::caller::Actor::Session(session)), attempt: Some(attempt), hop: 0 })
}

fn message(conversation: u32) -> v1::SendMessageRequest {
    let conversation_id = Some(format!("{conversation:024x}"));
    v1::SendMessageRequest { caller: caller(), conversation_id, ..Default::default() }
}

fn typing(conversation: u32) -> v1::SendTypingRequest {
    let conversation_id = Some(format!("{conversation:024x}"));
    v1::SendTypingRequest { caller: caller(), conversation_id, ..Default::default() }
}

/// A conversation whose calls go to the first core rather than to the second.
async fn conversation_of(calling: &Calling, first: &TestCore, second: &TestCore) -> u32 {
    for conversation in 0.. {
        calling.core.send_message(message(conversation)).await.unwrap();
        let is_firsts = !first.seen().is_empty();
        second.seen();
        if is_firsts {
            return conversation;
        }
    }
    unreachable!("half of all conversations are")
}

#[test]
fn many_failed_calls_are_few_lines() {
    let lines = (0..10_000).filter(|_| is_worth_a_line()).count();
    assert!(lines < 100, "{lines}");
}

#[tokio::test]
async fn a_conversations_calls_go_to_one_replica_and_all_replicas_have_some() {
    let cores = [TestCore::start().await, TestCore::start().await];
    let calling = Calling::to(&[&cores[0], &cores[1]]).await;
    let mut calls = [0, 0];
    for conversation in 0..20 {
        for _ in 0..5 {
            calling.core.send_message(message(conversation)).await.unwrap();
        }
        let seen = [cores[0].seen().len(), cores[1].seen().len()];
        assert!(seen == [5, 0] || seen == [0, 5], "{seen:?}");
        calls = [calls[0] + seen[0], calls[1] + seen[1]];
    }
    assert!(calls.iter().all(|&calls| calls > 0), "{calls:?}");
}

#[tokio::test]
async fn a_call_carries_the_gateways_token_and_its_attempt() {
    let core = TestCore::start().await;
    let calling = Calling::to(&[&core]).await;
    calling.core.send_message(message(1)).await.unwrap();
    let authorization = Some(format!("Bearer {TOKEN}"));
    assert_eq!(core.seen(), [Seen { hop: 0, frame: 7, authorization }]);
}

#[tokio::test]
async fn a_replica_that_is_unavailable_is_followed_by_the_next_under_the_same_attempt() {
    let (first, second) = (TestCore::start().await, TestCore::start().await);
    let calling = Calling::to(&[&first, &second]).await;
    let conversation = conversation_of(&calling, &first, &second).await;
    first.answer_next(Answer::Failure(Reason::TemporarilyUnavailable));
    calling.core.send_message(message(conversation)).await.unwrap();
    let (first_saw, second_saw) = (first.seen(), second.seen());
    assert_eq!((first_saw[0].hop, second_saw[0].hop), (0, 1));
    assert_eq!((first_saw[0].frame, second_saw[0].frame), (7, 7));

    first.answer_next(Answer::Failure(Reason::TemporarilyUnavailable));
    let failure = calling.core.send_typing(typing(conversation)).await.unwrap_err();
    assert_eq!(failure.reason, Reason::TemporarilyUnavailable);
    assert_eq!((first.hops(), second.hops()), (vec![0], vec![]), "typing is not repeated");
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_so_is_unavailability_of_the_only_replica() {
    let core = TestCore::start().await;
    let calling = Calling::to(&[&core]).await;
    for reason in [Reason::AccessDenied, Reason::InternalError, Reason::TemporarilyUnavailable] {
        core.answer_next(Answer::Failure(reason));
        assert_eq!(calling.core.send_message(message(1)).await.unwrap_err().reason, reason);
        assert_eq!(core.hops(), [0]);
    }
}

#[tokio::test]
async fn a_replica_that_does_not_answer_in_time_is_followed_by_the_next() {
    let (first, second) = (TestCore::start().await, TestCore::start().await);
    let calling = Calling::to(&[&first, &second]).await;
    let conversation = conversation_of(&calling, &first, &second).await;
    first.answer_next(Answer::Nothing);
    let begun = Instant::now();
    calling.core.send_message(message(conversation)).await.unwrap();
    assert!((900..1_800).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!((first.hops(), second.hops()), (vec![0], vec![1]));

    for core in [&first, &second] {
        core.answer_next(Answer::Nothing);
    }
    let by = Instant::now() + Duration::from_millis(1_500);
    let failure = calling.core.by(by).send_message(message(conversation)).await.unwrap_err();
    assert_eq!(failure.reason, Reason::TemporarilyUnavailable);
    assert!(Instant::now() < by + Duration::from_millis(300), "a frame has one deadline, however many replicas");
}

#[tokio::test]
async fn a_call_whose_replica_dies_is_repeated_where_that_is_allowed() {
    let (mut first, second) = (TestCore::start().await, TestCore::start().await);
    let calling = Calling::to(&[&first, &second]).await;
    let conversation = conversation_of(&calling, &first, &second).await;
    first.answer_next(Answer::Nothing);
    first.answer_next(Answer::Nothing);
    let (sending, also_typing) =
        (calling.core.send_message(message(conversation)), calling.core.send_typing(typing(conversation)));
    let kill = async {
        eventually(|| first.script.seen.lock().unwrap().len() == 2).await;
        first.kill();
    };
    let (sent, typed, ()) = tokio::join!(sending, also_typing, kill);
    sent.unwrap();
    assert_eq!(typed.unwrap_err().reason, Reason::TemporarilyUnavailable);
    assert_eq!(second.hops(), [1]);
}

#[tokio::test]
async fn a_call_that_never_left_goes_to_the_next_replica_whatever_it_is() {
    let (mut first, second) = (TestCore::start().await, TestCore::start().await);
    let calling = Calling::to(&[&first, &second]).await;
    let conversation = conversation_of(&calling, &first, &second).await;
    first.kill();
    // Until all of its connections are known to be gone, and after.
    let mut failed = 0;
    for _ in 0..50 {
        failed += usize::from(calling.core.send_message(message(conversation)).await.is_err());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(failed, 0);
    calling.core.send_typing(typing(conversation)).await.unwrap();
    first.restart();
    eventually(|| calling.replicas.healthy_connections() == 2 * replicas::CONNECTIONS).await;
    second.seen();
    calling.core.send_message(message(conversation)).await.unwrap();
    assert_eq!((first.hops(), second.hops()), (vec![0], vec![]), "it is preferred again");
}

#[tokio::test]
async fn the_only_replica_is_waited_for_and_gets_the_call_again_when_it_is_back() {
    let mut core = TestCore::start().await;
    let calling = Calling::to(&[&core]).await;
    core.answer_next(Answer::Nothing);
    let sending = calling.core.send_message(message(1));
    let restart = async {
        core.sees_a_call().await;
        core.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        core.restart();
    };
    let (sent, ()) = tokio::join!(sending, restart);
    sent.unwrap();
    assert_eq!(core.hops(), [0, 1]);
}

#[tokio::test]
async fn without_any_replica_a_call_fails_at_its_deadline_and_one_that_comes_in_time_takes_it() {
    let mut core = TestCore::start().await;
    core.kill();
    let calling = Calling::start(&[core.address.to_string()], 1_000, 0).await;
    assert!(!calling.replicas.is_any_healthy());
    let soon = calling.core.by(Instant::now() + Duration::from_millis(200));
    assert_eq!(soon.send_message(message(1)).await.unwrap_err().reason, Reason::TemporarilyUnavailable);
    let start = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        core.restart();
    };
    let (typed, ()) = tokio::join!(calling.core.send_typing(typing(1)), start);
    typed.unwrap();
    assert!(calling.replicas.is_any_healthy());
}

#[tokio::test]
async fn a_replica_behind_a_dead_link_is_left_out_after_a_moment_and_comes_back() {
    let (first, second) = (TestCore::start().await, TestCore::start().await);
    let proxy = Proxy::start(first.address).await.unwrap();
    let addresses = [proxy.address().to_string(), second.address.to_string()];
    let calling = Calling::start(&addresses, 1_800, 2).await;
    let conversation = conversation_of(&calling, &first, &second).await;
    proxy.hold();
    let begun = Instant::now();
    calling.core.send_message(message(conversation)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(second.hops(), [1]);
    eventually(|| calling.replicas.healthy_connections() == replicas::CONNECTIONS).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let begun = Instant::now();
    calling.core.send_message(message(conversation)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(500), "it is not even tried: {:?}", begun.elapsed());
    assert_eq!(second.hops(), [0]);
    proxy.release();
    eventually(|| calling.replicas.healthy_connections() == 2 * replicas::CONNECTIONS).await;
}
