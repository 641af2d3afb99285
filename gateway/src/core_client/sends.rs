//! The stream of sends to one replica of the core: all share one gRPC call, since a call for each costs more.
//!
//! The first send that finds no stream opens one. When a stream ends, the sends that wait for their answers fail as calls
//! do whose connection broke, and the next one opens another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use proto::v1;
use proto::v1::messaging_client::MessagingClient;
use proto::v1::send_stream_response::Outcome;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::config::GatewayToken;

/// Sends that wait to be taken by the transport; further ones wait for room, each as long as its call may.
const OUTGOING: usize = 64;

type Answer = Result<v1::SendMessageResponse, Status>;

/// The sends to one replica.
#[derive(Debug)]
pub(super) struct Sends {
    token: GatewayToken,
    /// The stream that is open, if any.
    stream: Mutex<Option<Stream>>,
    /// The next number of a send, or of a stream.
    next_number: AtomicU64,
}

#[derive(Debug)]
struct Stream {
    number: u64,
    outgoing: mpsc::Sender<v1::SendStreamRequest>,
    /// Who waits for an answer.
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
}

/// The replica has ended the stream, which it does when it stops.
#[derive(Debug, thiserror::Error)]
#[error("the core service has ended the stream of sends")]
struct StreamEnded;

impl Sends {
    pub(super) fn new(token: GatewayToken) -> Arc<Self> {
        Arc::new(Self { token, stream: Mutex::new(None), next_number: AtomicU64::new(0) })
    }

    /// Sends a message in the stream; if there is none yet, in one over this channel. May be dropped halfway.
    pub(super) async fn send(self: Arc<Self>, channel: Channel, request: v1::SendMessageRequest) -> Answer {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let outgoing = self.enlist(number, answer, channel);
        let _enlisted = Enlisted { sends: &self, number };
        let traceparent = proto::trace::traceparent();
        // Fails when the stream has ended, and then there is an answer.
        let _ = outgoing.send(v1::SendStreamRequest { number, request: Some(request), traceparent }).await;
        answered.await.unwrap_or_else(|_| Err(Status::from_error(Box::new(StreamEnded))))
    }

    fn enlist(
        self: &Arc<Self>,
        number: u64,
        answer: oneshot::Sender<Answer>,
        channel: Channel,
    ) -> mpsc::Sender<v1::SendStreamRequest> {
        let mut stream = self.stream();
        let stream = stream.get_or_insert_with(|| self.open(channel));
        stream.waiting.insert(number, answer);
        stream.outgoing.clone()
    }

    #[expect(clippy::disallowed_methods, reason = "it ends with the stream, which ends with the replica or with us")]
    fn open(self: &Arc<Self>, channel: Channel) -> Stream {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let (outgoing, sends) = mpsc::channel(OUTGOING);
        let mut request = Request::new(ReceiverStream::new(sends));
        request.metadata_mut().insert("authorization", self.token.authorization().clone());
        // It must not keep us, and with us the stream, for ever.
        let this = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut client = MessagingClient::new(channel)
                .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
                .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
            let ending = match client.send_stream(request).await {
                Ok(answers) => hand_out(&this, answers.into_inner()).await,
                Err(status) => status,
            };
            if let Some(this) = this.upgrade() {
                this.end(number, &ending);
            }
        });
        Stream { number, outgoing, waiting: HashMap::new() }
    }

    fn answered(&self, number: u64, answer: Answer) {
        let waiting = self.stream().as_mut().and_then(|stream| stream.waiting.remove(&number));
        if let Some(waiting) = waiting {
            // He may have given up just now.
            let _ = waiting.send(answer);
        }
    }

    /// Nothing more is answered in this stream.
    fn end(&self, number: u64, status: &Status) {
        let ended = self.stream().take_if(|stream| stream.number == number);
        for waiting in ended.into_iter().flat_map(|stream| stream.waiting.into_values()) {
            // As above.
            let _ = waiting.send(Err(status.clone()));
        }
    }

    fn stream(&self) -> MutexGuard<'_, Option<Stream>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A send that waits for its answer. Whoever gives up waits no longer.
struct Enlisted<'a> {
    sends: &'a Sends,
    number: u64,
}

impl Drop for Enlisted<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.sends.stream().as_mut() {
            stream.waiting.remove(&self.number);
        }
    }
}

/// Gives answers to those who wait for them, until there are no more; why there are none.
async fn hand_out(sends: &Weak<Sends>, mut answers: Streaming<v1::SendStreamResponse>) -> Status {
    loop {
        let answer = match answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Status::from_error(Box::new(StreamEnded)),
            Err(status) => return status,
        };
        let Some(sends) = sends.upgrade() else { return Status::from_error(Box::new(StreamEnded)) };
        let outcome = match answer.outcome {
            Some(Outcome::Sent(sent)) => Ok(sent),
            Some(Outcome::Failed(status)) => Err(status.into()),
            None => Err(Status::internal("an answer says nothing")),
        };
        sends.answered(answer.number, outcome);
    }
}
