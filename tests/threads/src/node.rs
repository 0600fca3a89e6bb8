//! The node of a model: it knows its sockets, and that is all.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::env::Env;
use crate::error::{Gap, OpenError};
use crate::id::{NodeId, SocketId, Types};
use crate::pattern::lane::SocketEnd;
use crate::pattern::push::Dead;
use crate::pattern::subscribe::At;
use crate::wire::control::SocketKind;

#[derive(Debug)]
pub(crate) struct Hall {
    env: Env,
    /// Each with whether it has slots.
    sockets: Mutex<Vec<(Arc<dyn SocketEnd>, bool)>>,
    publishers: Mutex<Vec<At>>,
    /// Those that are over.
    ended: Mutex<Vec<SocketId>>,
    events: Mutex<Vec<Event>>,
    news: watch::Sender<u64>,
}

pub(crate) struct SocketSpec {
    pub(crate) kind: SocketKind,
    pub(crate) channel: String,
    pub(crate) slots: bool,
    pub(crate) types: Types,
}

pub(crate) struct Registered;

#[derive(Debug)]
pub(crate) struct Event;

impl Event {
    pub(crate) fn dead(_: String, _: Dead, _: NodeId, _: u64) -> Self {
        Self
    }

    pub(crate) fn missed(_: &str, _: Gap) -> Self {
        Self
    }

    pub(crate) fn disconnected(_: &str, _: NodeId, _: u64) -> Self {
        Self
    }

    pub(crate) fn slow(_: &str, _: NodeId) -> Self {
        Self
    }

    pub(crate) fn given_up(_: &str, _: NodeId, _: u64) -> Self {
        Self
    }

    pub(crate) fn too_large(_: &str, _: NodeId, _: usize, _: usize) -> Self {
        Self
    }
}

impl Hall {
    pub(crate) fn new(env: Env) -> Arc<Self> {
        Arc::new(Self {
            env,
            sockets: Mutex::default(),
            publishers: Mutex::default(),
            ended: Mutex::default(),
            events: Mutex::default(),
            news: watch::Sender::new(0),
        })
    }

    pub(crate) fn register(
        &self,
        spec: SocketSpec,
        make: impl FnOnce(SocketId) -> Arc<dyn SocketEnd>,
    ) -> Result<Registered, OpenError> {
        let mut sockets = self.sockets.lock().expect("no panic");
        let end = make(SocketId(sockets.len() as u64));
        sockets.push((end, spec.slots));
        Ok(Registered)
    }

    /// The end of the socket that was opened last.
    pub(crate) fn newest(&self) -> Arc<dyn SocketEnd> {
        self.sockets.lock().expect("no panic").last().expect("one was opened").0.clone()
    }

    pub(crate) fn has_slots(&self, socket: &Arc<dyn SocketEnd>) -> bool {
        self.sockets.lock().expect("no panic").iter().any(|(end, slots)| *slots && Arc::ptr_eq(end, socket))
    }

    /// Lets go of the sockets, each of which holds its node.
    pub(crate) fn let_go(&self) {
        let sockets = std::mem::take(&mut *self.sockets.lock().expect("no panic"));
        drop(sockets);
    }

    pub(crate) fn unregister(&self, id: SocketId) {
        self.ended.lock().expect("no panic").push(id);
    }

    pub(crate) fn ended(&self) -> Vec<SocketId> {
        self.ended.lock().expect("no panic").clone()
    }

    pub(crate) fn emit(&self, event: Event) {
        self.events.lock().expect("no panic").push(event);
    }

    /// Nobody waits for that here.
    pub(crate) fn drained(&self) {}

    /// It is, from the start.
    pub(crate) async fn until_settled(&self) {}

    /// There are no peers.
    pub(crate) fn untold(&self) -> Option<NodeId> {
        None
    }

    /// Those that the model has named.
    pub(crate) fn publishers(&self, _: &str, _: &Types) -> Vec<At> {
        self.publishers.lock().expect("no panic").clone()
    }

    /// There is a publisher, which is to confirm subscriptions.
    pub(crate) fn has_publisher(&self, at: At) {
        self.publishers.lock().expect("no panic").push(at);
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    pub(crate) fn id(&self) -> NodeId {
        NodeId::from_bytes([1; 32])
    }

    /// Nothing changes here.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    pub(crate) fn is_settled(&self) -> bool {
        true
    }

    pub(crate) fn sockets_facing(&self, _: SocketId) -> Vec<(NodeId, SocketId)> {
        Vec::new()
    }

    pub(crate) fn max_message(&self) -> usize {
        1 << 20
    }
}
