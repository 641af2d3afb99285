//! Which local connections belong to a user, and all connections there are.
//!
//! Pushing an event to a user's sockets happens under the same lock as binding and unbinding one, so once a socket is
//! unbound no event of its former user follows. Nothing here waits: a push goes into a send queue.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use moka::sync::Cache;
use proto::ids::{ConnectionId, SessionId, UserId};
use tokio::time::{Instant, sleep_until};

use crate::connection::close::CloseReason;
use crate::connection::send_queue::SendQueue;

/// Most sockets of one device of one user.
const MAX_SOCKETS_PER_DEVICE: usize = 20;
/// How long a revoked session is remembered: longer than any bind takes that began before.
const REVOKED_MEMORY: Duration = Duration::from_secs(60);

/// Every connection of this gateway.
pub(crate) struct Registry {
    connections: DashMap<ConnectionId, Arc<SendQueue>>,
    users: DashMap<UserId, Vec<Bound>>,
    revoked: Cache<SessionId, ()>,
    going_away: AtomicBool,
}

/// To what a socket is bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Binding {
    pub(crate) session_id: SessionId,
    pub(crate) device: DeviceKey,
}

/// Tells the devices of one user apart; short, for every socket carries one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DeviceKey(u64);

impl DeviceKey {
    pub(crate) fn of(device_id: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        device_id.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// A socket bound to a user, oldest first in the user's list.
struct Bound {
    binding: Binding,
    queue: Arc<SendQueue>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Self {
            connections: DashMap::new(),
            users: DashMap::new(),
            revoked: Cache::builder().time_to_live(REVOKED_MEMORY).build(),
            going_away: AtomicBool::new(false),
        }
    }

    /// Takes up a connection, which is not bound yet.
    pub(crate) fn add(&self, queue: &Arc<SendQueue>) {
        self.connections.insert(queue.connection_id(), Arc::clone(queue));
        // Looked at after the insert: either this or the one who sets it orders the close.
        if self.going_away.load(Ordering::SeqCst) {
            queue.order_close(CloseReason::GoingAway);
        }
    }

    /// Forgets a connection that is not bound any more.
    pub(crate) fn remove(&self, connection_id: ConnectionId) {
        self.connections.remove(&connection_id);
    }

    /// Binds a connection, which gets its user's events from now on; a former binding is replaced. When the device has
    /// too many sockets, its oldest is closed.
    pub(crate) fn bind(&self, queue: &Arc<SendQueue>, former: Option<Binding>, binding: Binding) {
        let user_id = binding.session_id.user_id();
        if let Some(former) = former.filter(|former| former.session_id.user_id() != user_id) {
            self.unbind(queue.connection_id(), former.session_id);
        }
        let mut bound = self.users.entry(user_id).or_insert_with(|| Vec::with_capacity(1));
        // A socket that stays with its user misses no event in between.
        bound.retain(|other| other.queue.connection_id() != queue.connection_id());
        bound.push(Bound { binding, queue: Arc::clone(queue) });
        let of_device = |other: &Bound| other.binding.device == binding.device;
        if bound.iter().filter(|other| of_device(other)).count() > MAX_SOCKETS_PER_DEVICE
            && let Some(oldest) = bound.iter().position(of_device)
        {
            bound.remove(oldest).queue.order_close(CloseReason::TooManySockets);
        }
    }

    /// Ends a connection's binding to this session, if it is there.
    pub(crate) fn unbind(&self, connection_id: ConnectionId, session_id: SessionId) {
        let Entry::Occupied(mut bound) = self.users.entry(session_id.user_id()) else { return };
        bound.get_mut().retain(|other| other.queue.connection_id() != connection_id);
        if bound.get().is_empty() {
            bound.remove();
        }
    }

    /// Unbinds every socket of a session that is over, and remembers the session for a while.
    pub(crate) fn revoke(&self, session_id: SessionId) {
        // Remembered first: who binds meanwhile either is found below or finds this.
        self.revoked.insert(session_id, ());
        let Entry::Occupied(mut bound) = self.users.entry(session_id.user_id()) else { return };
        for revoked in bound.get_mut().extract_if(.., |other| other.binding.session_id == session_id) {
            revoked.queue.order_unbind(session_id);
        }
        if bound.get().is_empty() {
            bound.remove();
        }
    }

    /// Whether this session was revoked a short time ago.
    pub(crate) fn is_revoked(&self, session_id: SessionId) -> bool {
        self.revoked.contains_key(&session_id)
    }

    /// Puts a frame into the send queues of a user's sockets, except one. The frame is made when the first wants it.
    /// Returns how many sockets got it.
    pub(crate) fn push<'a>(
        &self,
        user_id: UserId,
        except: Option<ConnectionId>,
        mut frame: impl FnMut() -> Option<&'a Bytes>,
    ) -> u64 {
        let Some(bound) = self.users.get(&user_id) else { return 0 };
        let mut pushed = 0;
        for other in bound.iter().filter(|other| Some(other.queue.connection_id()) != except) {
            let Some(frame) = frame() else { return pushed };
            other.queue.push_event(frame);
            pushed += 1;
        }
        pushed
    }

    /// How many connections there are now.
    pub(crate) fn count(&self) -> usize {
        self.connections.len()
    }

    /// Every connection there is now.
    pub(crate) fn all(&self) -> Vec<Arc<SendQueue>> {
        self.connections.iter().map(|connection| Arc::clone(&connection)).collect()
    }

    /// Has every connection closed because the gateway stops, evenly spread over a time; later ones at once.
    pub(crate) async fn go_away(&self, over: Duration) {
        self.going_away.store(true, Ordering::SeqCst);
        close_spread(&self.all(), CloseReason::GoingAway, over).await;
    }

    /// Has every connection dropped now.
    pub(crate) fn drop_all(&self) {
        self.all().iter().for_each(|queue| queue.order_close(CloseReason::Dropped));
    }
}

/// Has connections closed, evenly spread over a time, so that their clients do not all come back at once.
pub(crate) async fn close_spread(connections: &[Arc<SendQueue>], reason: CloseReason, over: Duration) {
    let start = Instant::now();
    let count = u32::try_from(connections.len()).unwrap_or(u32::MAX).max(1);
    for (queue, number) in connections.iter().zip(0..) {
        if !over.is_zero() {
            sleep_until(start + over / count * number).await;
        }
        queue.order_close(reason);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::connection::send_queue::Order;

    const ANN: UserId = UserId::from_bytes([1; 12]);
    const BOB: UserId = UserId::from_bytes([2; 12]);

    fn binding(user_id: UserId, session: u8) -> Binding {
        Binding { session_id: SessionId::new(user_id, [session; 12]), device: DeviceKey::of("pc") }
    }

    fn queue(number: u8) -> Arc<SendQueue> {
        Arc::new(SendQueue::new(ConnectionId::from_bytes([number; 12])))
    }

    fn push(registry: &Registry, user_id: UserId, except: Option<ConnectionId>) -> u64 {
        let frame = Bytes::from_static(b"event");
        registry.push(user_id, except, || Some(&frame))
    }

    fn order(queue: &SendQueue) -> Option<Order> {
        queue.poll_order(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn every_socket_of_a_user_but_the_excepted_gets_an_event() {
        let registry = Registry::new();
        let queues = [queue(1), queue(2), queue(3)];
        registry.bind(&queues[0], None, binding(ANN, 1));
        registry.bind(&queues[1], None, binding(ANN, 1));
        registry.bind(&queues[2], None, binding(BOB, 1));
        assert_eq!(push(&registry, ANN, None), 2);
        assert_eq!(push(&registry, ANN, Some(queues[0].connection_id())), 1);
        assert_eq!(push(&registry, UserId::from_bytes([9; 12]), None), 0);
    }

    #[test]
    fn a_socket_that_is_bound_again_belongs_to_its_new_user_alone() {
        let registry = Registry::new();
        let socket = queue(1);
        registry.bind(&socket, None, binding(ANN, 1));
        registry.bind(&socket, Some(binding(ANN, 1)), binding(BOB, 1));
        assert_eq!((push(&registry, ANN, None), push(&registry, BOB, None)), (0, 1));
        assert!(!registry.users.contains_key(&ANN), "nothing is kept of a user without sockets");
        registry.bind(&socket, Some(binding(BOB, 1)), binding(BOB, 2));
        assert_eq!(push(&registry, BOB, None), 1);
        registry.unbind(socket.connection_id(), binding(BOB, 2).session_id);
        assert!(registry.users.is_empty());
    }

    #[test]
    fn the_oldest_of_too_many_sockets_of_a_device_is_closed() {
        let registry = Registry::new();
        let elsewhere = queue(99);
        let on_phone = Binding { device: DeviceKey::of("phone"), ..binding(ANN, 1) };
        registry.bind(&elsewhere, None, on_phone);
        let queues: Vec<_> = (0..=20).map(queue).collect();
        for queue in &queues[..20] {
            registry.bind(queue, None, binding(ANN, 1));
        }
        assert!(queues.iter().all(|queue| order(queue).is_none()));
        registry.bind(&queues[20], None, binding(ANN, 1));
        assert_eq!(order(&queues[0]), Some(Order::Close(CloseReason::TooManySockets)));
        assert!(queues[1..].iter().chain([&elsewhere]).all(|queue| order(queue).is_none()));
        assert_eq!(push(&registry, ANN, None), 21);
    }

    #[test]
    fn a_revoked_session_loses_its_sockets_and_no_other() {
        let registry = Registry::new();
        let (revoked, other) = (queue(1), queue(2));
        registry.bind(&revoked, None, binding(ANN, 1));
        registry.bind(&other, None, binding(ANN, 2));
        let session_id = binding(ANN, 1).session_id;
        registry.revoke(session_id);
        assert_eq!(order(&revoked), Some(Order::Unbind(session_id)));
        assert_eq!((order(&other), push(&registry, ANN, None)), (None, 1));
        assert!(registry.is_revoked(session_id) && !registry.is_revoked(binding(ANN, 2).session_id));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopping_gateway_closes_its_sockets_one_after_another_and_new_ones_at_once() {
        let registry = Arc::new(Registry::new());
        let queues: Vec<_> = (0..10).map(queue).collect();
        queues.iter().for_each(|queue| registry.add(queue));
        let closed = || queues.iter().filter(|queue| order(queue).is_some()).count();
        let mut leaving = tokio::task::JoinSet::new();
        leaving.spawn({
            let registry = Arc::clone(&registry);
            async move { registry.go_away(Duration::from_secs(10)).await }
        });
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        assert_eq!(closed(), 5);
        let late = queue(99);
        registry.add(&late);
        assert_eq!(order(&late), Some(Order::Close(CloseReason::GoingAway)));
        leaving.join_all().await;
        assert_eq!(closed(), 10);
    }
}
