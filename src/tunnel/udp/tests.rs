use tokio::sync::mpsc;

use super::*;
use crate::sys::Received;

/// A client that is a pair of channels.
struct Script {
    out: mpsc::UnboundedReceiver<Bytes>,
    back: mpsc::UnboundedSender<Vec<u8>>,
}

impl Lane for Script {
    async fn recv(&mut self, into: &mut Vec<Bytes>) -> Result<(), Ended> {
        into.push(self.out.recv().await.ok_or(Ended::ClientFinished)?);
        Ok(())
    }

    fn send(&mut self, packets: &Received<'_>, flow: &Flow) {
        for packet in packets.iter() {
            self.back.send(packet.to_vec()).unwrap();
            flow.carried(Way::Back, 1, packet.len() as u64);
        }
    }

    async fn end(self, _: &Ended) {}
}

struct Tunnel {
    target: UdpSocket,
    client: mpsc::UnboundedSender<Bytes>,
    back: mpsc::UnboundedReceiver<Vec<u8>>,
    flow: Arc<Flow>,
    task: tokio::task::JoinHandle<Ended>,
}

fn tunnel(idle: Duration, unanswered: u32) -> Tunnel {
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(target.local_addr().unwrap()).unwrap();
    target.connect(socket.local_addr().unwrap()).unwrap();
    target.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.set_nonblocking(true).unwrap();
    sys::prepare_upstream(&socket).unwrap();
    let flow = Arc::new(Flow::new(socket, unanswered, Arc::default(), Arc::default()).unwrap());
    let (client, out) = mpsc::unbounded_channel();
    let (back_in, back) = mpsc::unbounded_channel();
    let lane = Script { out, back: back_in };
    let task = tokio::task::spawn_local(run(lane, Arc::clone(&flow), idle, std::future::pending()));
    Tunnel { target, client, back, flow, task }
}

async fn local<T>(test: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(test).await
}

/// Nothing here takes long: what hangs fails soon.
async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), event).await.expect("nothing happened for ten seconds")
}

const LONG: Duration = Duration::from_mins(2);

/// What the target gets next, while the tunnel's task runs on.
async fn arrived(target: &UdpSocket) -> Vec<u8> {
    let target = target.try_clone().unwrap();
    tokio::task::spawn_blocking(move || {
        let mut packet = [0; 2048];
        let len = target.recv(&mut packet).expect("a packet");
        packet[..len].to_vec()
    })
    .await
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn c70_packets_of_either_way_are_activity_and_lost_ones_are_not() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let flow = Flow::new(socket, 1, Arc::default(), Arc::default()).unwrap();
    let start = Instant::now();
    let idle = async {
        flow.activity.idle(LONG).await;
        start.elapsed()
    };
    let traffic = async {
        for way in [Way::Out, Way::Back] {
            tokio::time::advance(Duration::from_secs(100)).await;
            flow.carried(way, 1, 0);
        }
        tokio::time::advance(Duration::from_secs(100)).await;
        flow.dropped(Way::Out, Loss::NoRoom, 1);
        flow.dropped(Way::Back, Loss::Unread, 1);
    };
    let (ended, ()) = tokio::join!(idle, traffic);
    assert_eq!(ended.as_secs(), 200 + LONG.as_secs());
}

#[tokio::test]
async fn packets_of_any_size_move_both_ways() {
    local(async {
        let mut tunnel = tunnel(LONG, 64);
        for payload in [&b""[..], b"x", &[7; 1400]] {
            tunnel.client.send(Bytes::copy_from_slice(payload)).unwrap();
            assert_eq!(arrived(&tunnel.target).await, payload);
            tunnel.target.send(payload).unwrap();
            assert_eq!(soon(tunnel.back.recv()).await.unwrap(), payload);
        }
        assert_eq!(tunnel.flow.totals(), Totals { packets_out: 3, bytes_out: 1401, packets_back: 3, bytes_back: 1401, dropped: 0 });
        drop(tunnel.client);
        assert!(matches!(soon(tunnel.task).await.unwrap(), Ended::ClientFinished));
    })
    .await;
}

#[tokio::test]
async fn c68_a_closed_port_ends_the_tunnel() {
    local(async {
        let tunnel = tunnel(LONG, 64);
        drop(tunnel.target);
        tunnel.client.send(Bytes::from_static(b"anybody there")).unwrap();
        assert!(matches!(soon(tunnel.task).await.unwrap(), Ended::Unreachable(_)));
    })
    .await;
}

#[tokio::test]
async fn c68_what_a_target_said_before_it_closed_is_still_delivered() {
    local(async {
        let mut tunnel = tunnel(LONG, 64);
        // Nothing of the tunnel runs between these: packet and error wait together.
        tunnel.target.send(b"last words").unwrap();
        drop(tunnel.target);
        tunnel.flow.socket.get_ref().send(b"anybody there").unwrap();
        assert!(matches!(soon(tunnel.task).await.unwrap(), Ended::Unreachable(_)));
        assert_eq!(tunnel.back.recv().await.unwrap(), b"last words");
    })
    .await;
}

#[tokio::test]
async fn c57_nothing_goes_out_once_the_tunnel_is_over() {
    local(async {
        let tunnel = tunnel(LONG, 64);
        drop(tunnel.client);
        assert!(matches!(soon(tunnel.task).await.unwrap(), Ended::ClientFinished));
        tunnel.flow.send(&[Bytes::from_static(b"too late")]);
        assert_eq!(tunnel.flow.totals(), Totals { dropped: 1, ..Totals::default() });
    })
    .await;
}

#[tokio::test]
async fn a_burst_arrives_whole_and_in_order() {
    local(async {
        let mut tunnel = tunnel(LONG, 64);
        // More than a first receive asks for; small enough for the receive buffer.
        for index in 0..100_u8 {
            tunnel.target.send(&[index; 32]).unwrap();
        }
        for index in 0..100_u8 {
            assert_eq!(soon(tunnel.back.recv()).await.unwrap(), [index; 32]);
        }
    })
    .await;
}

#[tokio::test]
async fn runs_of_any_shape_arrive_one_by_one() {
    local(async {
        let tunnel = tunnel(LONG, 64);
        let payloads: Vec<Bytes> = [900, 900, 300, 900, 0, 1].iter().map(|len| Bytes::from(vec![1; *len])).collect();
        tunnel.flow.send(&payloads);
        for payload in payloads {
            assert_eq!(soon(arrived(&tunnel.target)).await, payload);
        }
    })
    .await;
}

#[tokio::test]
async fn a_cut_ends_the_tunnel() {
    local(async {
        let target = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(target.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let flow = Arc::new(Flow::new(socket, 64, Arc::default(), Arc::default()).unwrap());
        let (_client, out) = mpsc::unbounded_channel();
        let lane = Script { out, back: mpsc::unbounded_channel().0 };
        let ended = soon(run(lane, flow, LONG, std::future::ready(Ended::Drained))).await;
        assert!(matches!(ended, Ended::Drained));
    })
    .await;
}

#[tokio::test]
async fn c69_an_overlong_payload_costs_only_itself() {
    local(async {
        let tunnel = tunnel(LONG, 64);
        tunnel.client.send(vec![0; 65_527].into()).unwrap();
        tunnel.client.send(Bytes::from_static(b"next")).unwrap();
        assert_eq!(arrived(&tunnel.target).await, b"next");
        assert_eq!(tunnel.flow.totals().dropped, 1);
    })
    .await;
}

#[tokio::test]
async fn c73_a_silent_target_is_not_flooded_until_it_answers() {
    local(async {
        let mut tunnel = tunnel(LONG, 2);
        let packet = Bytes::from_static(b"?");
        tunnel.flow.send(&[vec![0; 65_527].into()]); // goes nowhere, and counts as nothing
        tunnel.flow.send(&[packet.clone(), packet.clone(), packet.clone()]);
        tunnel.flow.send(std::slice::from_ref(&packet));
        assert_eq!((tunnel.flow.totals().packets_out, tunnel.flow.totals().dropped), (2, 3));
        tunnel.target.send(b"!").unwrap();
        tunnel.back.recv().await.unwrap();
        tunnel.flow.send(&[packet.clone(), packet]);
        assert_eq!(tunnel.flow.totals().packets_out, 4);
    })
    .await;
}

#[tokio::test]
async fn c70_silence_ends_the_tunnel_and_a_dropped_packet_is_silence() {
    local(async {
        let tunnel = tunnel(Duration::from_millis(50), 1);
        tunnel.flow.send(&[Bytes::from_static(b"1"), Bytes::from_static(b"2")]);
        assert!(matches!(soon(tunnel.task).await.unwrap(), Ended::Idle));
        assert_eq!(tunnel.flow.totals().dropped, 1);
    })
    .await;
}

#[tokio::test]
async fn an_abort_ends_the_tunnel_once() {
    local(async {
        let tunnel = tunnel(LONG, 64);
        tunnel.flow.abort(Ended::PayloadTooLong);
        tunnel.flow.abort(Ended::Idle);
        assert!(matches!(soon(tunnel.task).await.unwrap(), Ended::PayloadTooLong));
    })
    .await;
}
