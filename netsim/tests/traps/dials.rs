//! Two nodes that dial each other at the same time, seen in what they tell of themselves.

use std::cell::RefCell;
use std::fmt::{self, Write};

use netsim::sometimes;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// From now on looks at the dials of this thread, which is the run's.
pub(crate) fn look() {
    LAST.take();
    std::mem::forget(tracing::subscriber::set_default(Dials));
}

thread_local! {
    /// The dials that have succeeded, until the one of the other end is seen.
    static LAST: RefCell<Vec<[String; 2]>> = const { RefCell::new(Vec::new()) };
}

struct Dials;

impl Subscriber for Dials {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == "meshmq::node"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut told = Told::default();
        event.record(&mut told);
        LAST.with_borrow_mut(|last| match told.message.as_str() {
            "dialled" => {
                let met = last.iter().position(|[node, peer]| *node == told.peer && *peer == told.node);
                sometimes!("two nodes dial each other at the same time", met.is_some());
                last.push([told.node, told.peer]);
            }
            // Who was dialled before there was a link has nothing to do with the dials that come after its end.
            "link lost" => last.retain(|pair| !(pair.contains(&told.node) && pair.contains(&told.peer))),
            _ => {}
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Told {
    message: String,
    node: String,
    peer: String,
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = match field.name() {
            "message" => &mut self.message,
            "node" => &mut self.node,
            "peer" => &mut self.peer,
            _ => return,
        };
        let _ = write!(text, "{value:?}");
    }
}
