//! Files for Wireshark: every packet is in the capture, and the keys are those of its connections.

#![allow(clippy::unwrap_used)]

mod quic;
mod udp;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use netsim::{Link, Run, Sim, Units};
use rustls::Side;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::{Keys, Version};

use quic::{Certificates, endpoint};
use udp::{Udp, at};

/// A file of this test, gone at its end.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("netsim {} {name}", std::process::id())))
    }

    fn read(&self) -> Vec<u8> {
        std::fs::read(&self.0).unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Three clients, one after the other, over IPv4 and IPv6.
fn connect(capture: &Path, keys: &Path) -> Run<()> {
    Sim::run(1, async |sim: Sim| {
        sim.capture(capture).unwrap();
        sim.log_keys(keys).unwrap();
        sim.set_link(Link::lan().loss(0.05));
        let certificates = Certificates::new();
        let server = sim.host("server");
        let listener = endpoint(&server, &certificates);
        server.spawn(async move {
            while let Some(incoming) = listener.accept().await {
                // The last packets of the handshake may be overtaken by its end.
                if let Ok(connection) = incoming.await {
                    connection.closed().await;
                }
            }
        });
        for n in 0..3 {
            let client = sim.host(&format!("client {n}"));
            let dialler = endpoint(&client, &certificates);
            let address = (server.ips()[n % 2], quic::PORT).into();
            dialler.connect(address, quic::NAME).unwrap().await.unwrap();
            sim.sleep(10.s()).await;
        }
    })
}

#[test]
fn a_capture_has_every_packet_and_the_keys_of_its_connections() {
    let (capture, keys) = (Temporary::new("a.pcapng"), Temporary::new("a.keys"));
    let Run { trace, .. } = connect(&capture.0, &keys.0);
    let (blocks, keys) = (blocks(&capture.read()), String::from_utf8(keys.read()).unwrap());

    let (kind, section) = &blocks[0];
    assert_eq!((*kind, &section[..8]), (0x0a0d_0d0a, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0][..]));
    let names: Vec<_> = blocks.iter().filter(|(kind, _)| *kind == 1).map(|(_, body)| interface(body)).collect();
    assert_eq!(names, ["client 0", "server", "client 1", "client 2"]);
    let packets: Vec<_> = blocks.iter().filter(|(kind, _)| *kind == 6).map(|(_, body)| packet(body)).collect();
    assert_eq!(packets.len() as u64, trace.packets.sent);
    assert!(packets.is_sorted_by_key(|packet| packet.time));
    assert!(packets.iter().all(|packet| packet.time >= 1_767_225_600_000_000_000));
    let lost = packets.iter().filter(|packet| packet.comment.as_deref() == Some("lost")).count();
    assert_eq!(lost as u64, trace.packets.lost);
    assert!(packets.iter().any(|packet| packet.ipv6) && packets.iter().any(|packet| !packet.ipv6));

    // The same secrets in both files, and each kind once from either end.
    let secrets = blocks.iter().filter(|(kind, _)| *kind == 10).map(|(_, body)| secrets(body));
    assert_eq!(secrets.collect::<String>(), keys);
    let mut labels: BTreeMap<[u8; 32], Vec<&str>> = BTreeMap::new();
    for line in keys.lines() {
        let [label, random, secret] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(secret.len() % 32, 0, "{line}");
        assert!(unhex(secret).len() >= 32);
        labels.entry(unhex(random).try_into().unwrap()).or_default().push(label);
    }
    for all in labels.values_mut() {
        all.sort_unstable();
        let expected = [
            "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
            "CLIENT_TRAFFIC_SECRET_0",
            "EXPORTER_SECRET",
            "SERVER_HANDSHAKE_TRAFFIC_SECRET",
            "SERVER_TRAFFIC_SECRET_0",
        ];
        assert_eq!(*all, expected.iter().flat_map(|label| [*label, *label]).collect::<Vec<_>>());
    }
    // A client's first packet is protected by what it says of itself: the random number is in it.
    let randoms: BTreeSet<_> = packets.iter().filter_map(client_random).collect();
    assert_eq!(randoms, labels.into_keys().collect());
}

#[test]
fn the_same_seed_makes_the_same_files() {
    let files = ["b.pcapng", "b.keys", "c.pcapng", "c.keys"].map(Temporary::new);
    connect(&files[0].0, &files[1].0);
    connect(&files[2].0, &files[3].0);
    assert_eq!(files[0].read(), files[2].read());
    assert_eq!(files[1].read(), files[3].read());
}

#[test]
fn a_capture_says_why_a_packet_does_not_arrive() {
    let file = Temporary::new("d.pcapng");
    Sim::run(1, async |sim: Sim| {
        sim.capture(&file.0).unwrap();
        let (a, b) = (sim.host("a"), sim.host("b"));
        let from = Udp::bind(&a, "[::]:1");
        from.send(at(&b, 2), b"odd");
        from.send(at(&b, 2), &[0; 3000]);
        from.send("10.0.0.9:2".parse().unwrap(), b"");
        sim.cut(&a, &b);
        from.send(at(&b, 2), b"even");
    });
    let packets = blocks(&file.read()).into_iter().filter(|(kind, _)| *kind == 6).map(|(_, body)| packet(&body));
    let packets: Vec<_> = packets.map(|packet| (packet.datagram.len(), packet.comment)).collect();
    let expected = [(3, None), (3000, Some("too large")), (0, Some("nobody has this address")), (4, Some("cut"))];
    assert_eq!(packets, expected.map(|(len, comment)| (len, comment.map(str::to_owned))));
}

#[test]
fn a_file_that_cannot_be_written_is_said_at_once() {
    Sim::run(1, async |sim: Sim| {
        assert!(sim.capture("/no such folder/a.pcapng").is_err());
        assert!(sim.log_keys("/no such folder/a.keys").is_err());
    });
}

/// The blocks of a pcapng file, with what is between their lengths.
fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut blocks = Vec::new();
    while !file.is_empty() {
        let (kind, length) = (u32_at(file, 0), u32_at(file, 4) as usize);
        assert!(length.is_multiple_of(4) && length >= 12);
        assert_eq!(u32_at(file, length - 4) as usize, length);
        blocks.push((kind, file[8..length - 4].to_vec()));
        file = &file[length..];
    }
    blocks
}

/// The name of an interface.
fn interface(body: &[u8]) -> String {
    assert_eq!(u32_at(body, 0), 101, "raw IP");
    let options = options(&body[8..]);
    assert_eq!(options[&9], [9], "nanoseconds");
    String::from_utf8(options[&2].clone()).unwrap()
}

struct Packet {
    time: u64,
    ipv6: bool,
    datagram: Vec<u8>,
    comment: Option<String>,
}

/// A packet whose checksums and lengths are right.
fn packet(body: &[u8]) -> Packet {
    let time = u64::from(u32_at(body, 4)) << 32 | u64::from(u32_at(body, 8));
    let length = u32_at(body, 12) as usize;
    assert_eq!(u32_at(body, 16) as usize, length);
    let ip = &body[20..20 + length];
    let ipv6 = ip[0] >> 4 == 6;
    let (addresses, udp) = if ipv6 { (&ip[8..40], &ip[40..]) } else { (&ip[12..20], &ip[20..]) };
    if ipv6 {
        assert_eq!((usize::from(u16_at(ip, 4)), ip[6]), (udp.len(), 17));
    } else {
        assert_eq!((usize::from(u16_at(ip, 2)), ip[9], ones_complement(&ip[..20])), (length, 17, 0xffff));
    }
    assert_eq!(usize::from(u16_at(udp, 4)), udp.len());
    let pseudo = [addresses, &[0, 17], &u16_at(udp, 4).to_be_bytes(), udp].concat();
    assert_eq!(ones_complement(&pseudo), 0xffff);
    let options = options(&body[20 + length.next_multiple_of(4)..]);
    let comment = options.get(&1).map(|comment| String::from_utf8(comment.clone()).unwrap());
    Packet { time, ipv6, datagram: udp[8..].to_vec(), comment }
}

fn secrets(body: &[u8]) -> String {
    assert_eq!(&body[..4], b"KSLT");
    String::from_utf8(body[8..8 + u32_at(body, 4) as usize].to_vec()).unwrap()
}

fn options(mut bytes: &[u8]) -> BTreeMap<u16, Vec<u8>> {
    let mut options = BTreeMap::new();
    loop {
        let (code, length) = (u32_at(bytes, 0) as u16, (u32_at(bytes, 0) >> 16) as usize);
        if code == 0 {
            assert_eq!(bytes.len(), 4);
            return options;
        }
        options.insert(code, bytes[4..4 + length].to_vec());
        bytes = &bytes[4 + length.next_multiple_of(4)..];
    }
}

/// The random number of the ClientHello in a client's first Initial packet (RFC 9001, 5).
fn client_random(packet: &Packet) -> Option<[u8; 32]> {
    let mut bytes = packet.datagram.clone();
    // A long header of type Initial; the dialler's first connection id is 20 bytes long, later ones 8.
    if bytes.len() < 1200 || bytes[0] & 0xf0 != 0xc0 || bytes[5] != 20 {
        return None;
    }
    let id = bytes[6..26].to_vec();
    let after_source = 27 + usize::from(bytes[26]);
    assert_eq!(bytes[after_source], 0, "no token");
    let number_at = after_source + 3;
    let length = usize::from(u16_at(&bytes, after_source + 1) & 0x3fff);
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    let keys = Keys::initial(Version::V1, suite, suite.quic_suite().unwrap().quic, &id, Side::Server);
    let sample = bytes[number_at + 4..number_at + 20].to_vec();
    let (first, rest) = bytes.split_at_mut(1);
    let number = &mut rest[number_at - 1..number_at + 3];
    keys.remote.header.decrypt_in_place(&sample, &mut first[0], number).unwrap();
    let number_length = usize::from(first[0] & 3) + 1;
    let number = number[..number_length].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let (header, payload) = bytes.split_at_mut(number_at + number_length);
    let payload = &mut payload[..length - number_length];
    let payload = keys.remote.packet.decrypt_in_place(number, header, payload).unwrap();
    // A CRYPTO frame at 0, whose ClientHello has six bytes before the number.
    let hello = payload.iter().position(|byte| *byte != 0 && *byte != 1).filter(|at| payload[*at] == 6)?;
    let start = hello + 2 + if payload[hello + 2] & 0x40 == 0 { 1 } else { 2 };
    Some(payload[start + 6..start + 38].try_into().unwrap())
}

fn ones_complement(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}
