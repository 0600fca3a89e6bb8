//! The crate's daemon, which has a thread of its own and keeps whatever it hears: it is watched, and started afresh when
//! it keeps too much or has ended.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use mdns_sd::{AsIpAddrs, DaemonEvent, IfKind, Metrics, Receiver, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};

use super::addresses::{Heard, Own, choose};
use super::advert;
use super::sightings::Sightings;
use crate::discovery::{Advert, Finder, Found};
use crate::env::Env;
use crate::wire::limits::{MDNS_LISTENS, MDNS_LISTENS_AT_MOST, MDNS_RECORDS, MDNS_VERIFY};

/// For people.
const NO_MULTICAST: &str = "no multicast: no network interface of this host takes part; name the address of a peer, or \
                            meet in a local folder";
const NO_MULTICAST_ON_LOOPBACK: &str =
    "[::1], where this node listens, has no multicast; listen on 127.0.0.1 or on [::]";
/// How often the daemon's memory is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Times that the daemon may have noted for later; it notes some for each record it hears, also for a known one.
const MAX_TIMERS: i64 = 65_536;
/// How long the daemon may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How long its goodbye may take.
const FAREWELL: Duration = Duration::from_millis(50);
/// Until an ended daemon is started again; doubled up to [`LAST_PAUSE`] while it does not last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// The first pass is over when there was no news for so long.
const QUIET: Duration = Duration::from_millis(250);
/// With more instances than this nobody asks anew: the daemon would repeat all it knows at once, and cut off a listener
/// that does not follow.
const MAX_REPEATED: usize = 300;

/// Advertises and listens until it is dropped.
pub(super) async fn run(own: Advert, ask: Duration, env: Env, found: Finder) {
    let mut listening = Listening {
        sightings: Sightings::new(&own),
        own,
        ask,
        env,
        found,
        interfaces: Vec::new(),
        multicast: false,
        asked: String::new(),
        first_pass: false,
        reported: String::new(),
    };
    if listening.own.bound.ip() == Ipv6Addr::LOCALHOST {
        listening.report(NO_MULTICAST_ON_LOOPBACK.into()).await;
        return listening.finish_first_pass().await;
    }
    let mut pause = FIRST_PAUSE;
    loop {
        let began = listening.env.now();
        let why = match Daemon::start(&listening.own) {
            Ok(daemon) => listening.listen(daemon).await,
            Err(error) => error.to_string(),
        };
        if listening.env.now() - began > LAST_PAUSE {
            pause = FIRST_PAUSE;
        }
        for withdrawn in listening.sightings.clear() {
            listening.found.tell(withdrawn).await;
        }
        listening.report(format!("{why}; starts again in {} s", pause.as_secs())).await;
        listening.finish_first_pass().await;
        listening.env.sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

struct Listening {
    own: Advert,
    ask: Duration,
    env: Env,
    found: Finder,
    sightings: Sightings,
    /// The addresses of this host.
    interfaces: Vec<Own>,
    /// The advert goes out on an interface, at least.
    multicast: bool,
    /// Where the daemon has asked, in its words.
    asked: String,
    /// The first pass is finished.
    first_pass: bool,
    /// The last report, so that the same is told once.
    reported: String,
}

impl Listening {
    /// Says why it has ended.
    async fn listen(&mut self, mut daemon: Daemon) -> String {
        self.interfaces = own_addresses();
        self.multicast = daemon.has_announced(&self.env).await;
        if !self.multicast {
            self.report_sightings().await;
            self.finish_first_pass().await;
        }
        let mut doubts = self.found.doubts();
        let mut timer = self.env.timer();
        let began = self.env.now();
        // Who has just announced itself answers no question for a second: "nobody" takes longer to find out.
        let mut quiet = began + MDNS_LISTENS_AT_MOST;
        let mut look = began + LOOK;
        let mut ask = began + self.ask_again();
        loop {
            let first_pass = (!self.first_pass).then(|| quiet.min(began + MDNS_LISTENS_AT_MOST));
            timer.set(Some(first_pass.map_or(look, |at| at.min(look))));
            tokio::select! {
                biased;
                // First, so that no flood of events keeps the daemon's memory from being looked at.
                () = timer.fired() => {
                    let now = self.env.now();
                    if first_pass.is_some_and(|at| now >= at) {
                        self.report_sightings().await;
                        self.finish_first_pass().await;
                    }
                    if now >= look {
                        look = now + LOOK;
                        if let Some(why) = daemon.is_unfit(&self.env).await {
                            return why;
                        }
                        if self.first_pass {
                            self.report_sightings().await;
                        }
                    }
                    if now >= ask {
                        ask = now + self.ask_again();
                        if self.sightings.len() <= MAX_REPEATED {
                            daemon.ask();
                        }
                    }
                }
                event = daemon.monitor.recv_async() => match event {
                    Ok(DaemonEvent::IpAdd(_)) => {
                        self.multicast = true;
                        self.interfaces = own_addresses();
                        // By itself the daemon asks once where it was not before.
                        ask = look;
                    }
                    Ok(DaemonEvent::IpDel(_)) => self.interfaces = own_addresses(),
                    Ok(_) => {}
                    Err(_) => return "mDNS has ended".into(),
                },
                event = daemon.events.next() => {
                    let Some(event) = event else { return "more adverts came at once than mDNS hands over".into() };
                    if let Some(news) = self.handle(event) {
                        tracing::debug!(target: "meshmq::discovery", ?news, "by mDNS");
                        self.found.tell(news).await;
                        quiet = (self.env.now() + QUIET).max(began + MDNS_LISTENS);
                    }
                }
                node = doubts.next() => {
                    if let Some(name) = self.sightings.doubted(self.env.now(), node) {
                        tracing::debug!(target: "meshmq::discovery", node = %node.short(), "is its record still true?");
                        // A daemon that is too busy is asked at the next doubt.
                        let _ = daemon.handle.0.verify(name, MDNS_VERIFY);
                    }
                }
            }
        }
    }

    fn handle(&mut self, event: ServiceEvent) -> Option<Found> {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let name = service.get_fullname();
                let told = advert::read(name, |key| service.get_property_val_str(key));
                let heard: Vec<_> = service.get_addresses().iter().map(heard).collect();
                let addresses = choose(&heard, service.get_port(), &self.interfaces, self.own.bound.ip());
                self.sightings.resolved(name, told, addresses)
            }
            ServiceEvent::ServiceRemoved(_, name) => self.sightings.removed(&name),
            ServiceEvent::SearchStarted(on) => {
                self.asked = on.strip_prefix(advert::SERVICE).unwrap_or(&on).trim().to_owned();
                None
            }
            _ => None,
        }
    }

    async fn report_sightings(&mut self) {
        let report = if self.multicast { self.sightings.report(&self.asked) } else { NO_MULTICAST.into() };
        self.report(report).await;
    }

    async fn report(&mut self, report: String) {
        if self.reported != report {
            self.reported.clone_from(&report);
            self.found.tell(Found::Report(report)).await;
        }
    }

    async fn finish_first_pass(&mut self) {
        if !std::mem::replace(&mut self.first_pass, true) {
            self.found.tell(Found::FirstPass).await;
        }
    }

    /// When this node asks anew: all together ask as often as `ask` says, and not at the same time.
    fn ask_again(&self) -> Duration {
        // Without randomness all ask at once, which does little harm.
        let jitter = self.env.random_u64().unwrap_or(0) % 1024;
        self.ask.mul_f64((self.sightings.len() + 1) as f64 * (0.75 + jitter as f64 / 2048.0))
    }
}

/// The daemon with our advert on it.
struct Daemon {
    handle: Handle,
    /// What becomes of the advert and of the host's addresses.
    monitor: Receiver<DaemonEvent>,
    events: Events,
}

/// The daemon ends with it, and withdraws our advert.
struct Handle(ServiceDaemon);

/// What the daemon finds.
struct Events {
    now: Receiver<ServiceEvent>,
    /// The same after having asked anew, once the others are read.
    next: Option<Receiver<ServiceEvent>>,
}

impl Daemon {
    fn start(own: &Advert) -> mdns_sd::Result<Self> {
        let handle = Handle(ServiceDaemon::new()?);
        let daemon = &handle.0;
        let bound = own.bound.ip().to_canonical();
        if let Some(only) = interfaces(bound) {
            daemon.disable_interface(IfKind::All)?;
            daemon.enable_interface(only)?;
        }
        let monitor = daemon.monitor()?;
        daemon.register(service(own, bound)?)?;
        let events = Events { now: daemon.browse(advert::SERVICE)?, next: None };
        Ok(Self { handle, monitor, events })
    }

    /// The advert went out on an interface, at least.
    async fn has_announced(&mut self, env: &Env) -> bool {
        // Its answer says that it has done what it was told before.
        let Ok(status) = self.handle.0.status() else { return false };
        if !matches!(env.timeout(ANSWER, status.recv_async()).await, Some(Ok(_))) {
            return false;
        }
        self.monitor.try_iter().any(|event| matches!(event, DaemonEvent::Announce(..)))
    }

    /// Asks the network anew; what is known is told once more.
    fn ask(&mut self) {
        if self.events.next.is_none() {
            // A daemon that is too busy is asked at the next turn.
            self.events.next = self.handle.0.browse(advert::SERVICE).ok();
        }
    }

    /// Why it has to be started afresh.
    async fn is_unfit(&self, env: &Env) -> Option<String> {
        // One that is too busy to be asked is asked at the next turn.
        let metrics = self.handle.0.get_metrics().ok()?;
        match env.timeout(ANSWER, metrics.recv_async()).await {
            Some(Ok(metrics)) if is_too_much(&metrics) => {
                Some(format!("more than {MDNS_RECORDS} records came from the network, and were dropped"))
            }
            Some(Ok(_)) => None,
            Some(Err(_)) | None => Some("mDNS does not answer".into()),
        }
    }
}

impl Events {
    /// `None`: the daemon has ended, or has cut this listener off.
    ///
    /// # Cancel safety
    /// No event is lost when it is dropped.
    async fn next(&mut self) -> Option<ServiceEvent> {
        loop {
            match self.now.recv_async().await {
                Ok(event) => return Some(event),
                Err(_) => self.now = self.next.take()?,
            }
        }
    }
}

impl Drop for Handle {
    /// Waits for the goodbye: the process may be about to end.
    fn drop(&mut self) {
        if let Ok(done) = self.0.shutdown() {
            let _ = done.recv_timeout(FAREWELL);
        }
    }
}

fn service(own: &Advert, bound: IpAddr) -> mdns_sd::Result<ServiceInfo> {
    let everywhere = bound.is_unspecified();
    let addresses: Box<dyn AsIpAddrs> = if everywhere { Box::new(()) } else { Box::new(bound) };
    let (name, host, properties) = (own.node.to_string(), advert::host(own.node), advert::properties(own));
    let mut service = ServiceInfo::new(advert::SERVICE, &name, &host, addresses, own.port, &properties[..])?;
    // The name is the node's id: nobody else has it.
    service.set_requires_probe(false);
    Ok(if everywhere { service.enable_addr_auto() } else { service })
}

/// The interfaces on which a node that is bound to this address is reached; `None`: all.
fn interfaces(bound: IpAddr) -> Option<IfKind> {
    match bound {
        IpAddr::V4(ip) if ip.is_unspecified() => Some(IfKind::IPv4),
        IpAddr::V6(ip) if ip.is_unspecified() => None,
        IpAddr::V4(ip) if ip.is_loopback() => Some(IfKind::LoopbackV4),
        IpAddr::V6(ip) if ip.is_loopback() => Some(IfKind::LoopbackV6),
        ip => Some(IfKind::Addr(ip)),
    }
}

fn is_too_much(metrics: &Metrics) -> bool {
    let records: i64 = metrics.iter().filter(|(name, _)| name.starts_with("cached-")).map(|(_, count)| count).sum();
    records > MDNS_RECORDS as i64 || metrics.get("timer").is_some_and(|timers| *timers > MAX_TIMERS)
}

fn heard(address: &ScopedIp) -> Heard {
    let interfaces = match address {
        ScopedIp::V4(address) => address.interface_ids().iter().map(|interface| interface.index).collect(),
        ScopedIp::V6(address) => vec![address.scope_id().index],
        _ => Vec::new(),
    };
    Heard { ip: address.to_ip_addr(), interfaces }
}

/// None when the operating system does not say: addresses are then dialled in no particular order, none of loopback.
fn own_addresses() -> Vec<Own> {
    let addresses = if_addrs::get_if_addrs().unwrap_or_default();
    let own = addresses.into_iter().map(|own| {
        let prefix = match &own.addr {
            if_addrs::IfAddr::V4(address) => address.prefixlen,
            if_addrs::IfAddr::V6(address) => address.prefixlen,
        };
        Own { interface: own.index.unwrap_or(0), ip: own.ip(), prefix }
    });
    own.collect()
}
