//! Packets and keys in files, for Wireshark.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::KeyLog;

use crate::clock::START;
use crate::host::Host;
use crate::inbox::Packet;
use crate::network::{HostId, Network};
use crate::sim::Sim;

/// What has happened, for other programs.
impl Sim {
    /// From now on writes every packet that a host sends into this file, whatever becomes of it; the file is complete
    /// when the run has ended. Should writing fail later, the run goes on and the file ends there.
    ///
    /// The format is pcapng (draft-ietf-opsawg-pcapng), which Wireshark opens: one interface for each host, raw IP
    /// packets with times to the nanosecond, and a comment at those that do not arrive. The secrets of all connections
    /// that log their keys with [`Host::key_log`], as nodes with `Host::env` do, are in it as well: Wireshark
    /// shows what was said.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn capture(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let capture = Capture::new(Box::new(BufWriter::new(File::create(path)?)))?;
        self.network().set_capture(capture);
        Ok(())
    }

    /// From now on writes the secrets of all connections that log them with [`Host::key_log`], as nodes with `Host::env`
    /// do, into this file, in the format of NSS (`SSLKEYLOGFILE`, draft-ietf-tls-keylogfile).
    ///
    /// # Errors
    /// The file can't be written.
    pub fn log_keys(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.network().set_keys(Box::new(BufWriter::new(File::create(path)?)));
        Ok(())
    }
}

impl Host {
    /// For [`rustls::ClientConfig::key_log`] and the server's: what they tell goes where [`Sim::capture`] and
    /// [`Sim::log_keys`] say, and nowhere when they were not called.
    pub fn key_log(&self) -> Arc<dyn KeyLog> {
        Arc::new(Keys(self.sim().network().clone()))
    }
}

/// Where captures and keys go to.
pub(crate) type Sink = Box<dyn Write + Send>;

/// A file of packets.
pub(crate) struct Capture {
    sink: Sink,
    /// The interfaces that are in it, by host.
    interfaces: BTreeMap<HostId, u32>,
}

impl Capture {
    pub(crate) fn new(mut sink: Sink) -> io::Result<Self> {
        let mut header = Block::new(SECTION_HEADER);
        header.u32(BYTE_ORDER).u16(1).u16(0).u64(u64::MAX);
        header.write(&mut sink)?;
        Ok(Self { sink, interfaces: BTreeMap::new() })
    }

    /// A host sends a packet; `comment`: why it does not arrive.
    pub(crate) fn packet(
        &mut self,
        now: Duration,
        host: HostId,
        host_name: &str,
        packet: &Packet,
        comment: Option<&str>,
    ) -> io::Result<()> {
        let interface = self.interface(host, host_name)?;
        let bytes = ip_packet(packet);
        let time = u64::try_from((START + now).as_nanos()).unwrap_or(u64::MAX);
        let length = bytes.len() as u32;
        let mut block = Block::new(ENHANCED_PACKET);
        block.u32(interface).u32((time >> 32) as u32).u32(time as u32).u32(length).u32(length).bytes(&bytes);
        if let Some(comment) = comment {
            block.option(COMMENT, comment.as_bytes());
        }
        block.option(PACKET_FLAGS, &OUTBOUND.to_le_bytes()).end_of_options();
        block.write(&mut self.sink)
    }

    /// A line of a key log. It comes before the packets that need it: who sends them has made it first.
    pub(crate) fn secret(&mut self, line: &str) -> io::Result<()> {
        let mut block = Block::new(DECRYPTION_SECRETS);
        block.u32(TLS_KEY_LOG).u32(line.len() as u32).bytes(line.as_bytes());
        block.write(&mut self.sink)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }

    fn interface(&mut self, host: HostId, name: &str) -> io::Result<u32> {
        if let Some(interface) = self.interfaces.get(&host) {
            return Ok(*interface);
        }
        let interface = self.interfaces.len() as u32;
        let mut block = Block::new(INTERFACE);
        block.u16(RAW_IP).u16(0).u32(0);
        block.option(INTERFACE_NAME, name.as_bytes()).option(TIME_RESOLUTION, &[NANOSECONDS]).end_of_options();
        block.write(&mut self.sink)?;
        self.interfaces.insert(host, interface);
        Ok(interface)
    }
}

/// Tells the run what rustls tells it.
struct Keys(Arc<Network>);

impl KeyLog for Keys {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        self.0.log_secret(&format!("{label} {} {}\n", Hex(client_random), Hex(secret)));
    }

    fn will_log(&self, _: &str) -> bool {
        self.0.wants_secrets()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A block of the file: its type, its length before and after, and what is in it, in steps of four bytes.
struct Block {
    kind: u32,
    body: Vec<u8>,
}

impl Block {
    fn new(kind: u32) -> Self {
        Self { kind, body: Vec::new() }
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.body.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.body.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.body.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.body.extend_from_slice(bytes);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self
    }

    fn option(&mut self, code: u16, value: &[u8]) -> &mut Self {
        // A name of 64 KiB is cut: nobody has one.
        let value = &value[..value.len().min(u16::MAX.into())];
        self.u16(code).u16(value.len() as u16).bytes(value)
    }

    fn end_of_options(&mut self) {
        self.u32(0);
    }

    fn write(&self, sink: &mut impl Write) -> io::Result<()> {
        let length = (self.body.len() as u32 + 12).to_le_bytes();
        sink.write_all(&self.kind.to_le_bytes())?;
        sink.write_all(&length)?;
        sink.write_all(&self.body)?;
        sink.write_all(&length)
    }
}

/// The datagram as an IP packet (RFC 791, RFC 8200) with its UDP header (RFC 768).
fn ip_packet(packet: &Packet) -> Vec<u8> {
    let Packet { from, to, ecn, bytes } = packet;
    let udp_length = bytes.len() + 8;
    let mark = ecn.map_or(0, |ecn| ecn as u8);
    let mut out = Vec::with_capacity(packet.size());
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = (udp_length as u16 + 20).to_be_bytes();
            out.extend_from_slice(&[0x45, mark, total[0], total[1], 0, 0, 0x40, 0, 64, UDP, 0, 0]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
            let checksum = !sum(&out, 0);
            out[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        (from, to) => {
            let length = (udp_length as u16).to_be_bytes();
            out.extend_from_slice(&[0x60 | mark >> 4, mark << 4, 0, 0, length[0], length[1], UDP, 64]);
            for ip in [from, to] {
                out.extend_from_slice(&v6(ip));
            }
        }
    }
    let start = out.len();
    for field in [from.port(), to.port(), udp_length as u16, 0] {
        out.extend_from_slice(&field.to_be_bytes());
    }
    out.extend_from_slice(bytes);
    let checksum = udp_checksum(*from, *to, &out[start..]);
    out[start + 6..start + 8].copy_from_slice(&checksum.to_be_bytes());
    out
}

fn udp_checksum(from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> u16 {
    let mut pseudo = u32::from(UDP) + datagram.len() as u32;
    for ip in [from.ip(), to.ip()] {
        pseudo += match ip {
            IpAddr::V4(ip) => u32::from(sum(&ip.octets(), 0)),
            IpAddr::V6(ip) => u32::from(sum(&ip.octets(), 0)),
        };
    }
    match !sum(datagram, pseudo) {
        // Zero says that there is none.
        0 => 0xffff,
        checksum => checksum,
    }
}

/// The sum of 16-bit words in ones' complement.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)])));
    let mut sum: u32 = start + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 10;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// `LINKTYPE_RAW`: the packet begins with its IP header.
const RAW_IP: u16 = 101;
const COMMENT: u16 = 1;
const INTERFACE_NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;
/// Ten to the power of minus this.
const NANOSECONDS: u8 = 9;
const PACKET_FLAGS: u16 = 2;
const OUTBOUND: u32 = 2;
const TLS_KEY_LOG: u32 = 0x544c_534b;
/// The protocol's number in an IP header.
const UDP: u8 = 17;
