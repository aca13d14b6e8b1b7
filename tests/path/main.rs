//! What the path emulator does to packets.

#[path = "emulator.rs"]
mod path;

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use tokio::{
        net::UdpSocket,
        time::{Instant, timeout},
    };

    use crate::path::{Conditions, Link, Path, Tally};

    const MS: Duration = Duration::from_millis(1);

    /// Arrival of `count` packets of `length` bytes, one a millisecond, in milliseconds after the first was sent.
    fn arrivals(link: &mut Link, count: u32, length: usize) -> Vec<Option<f64>> {
        let start = Instant::now();
        (0..count).map(|at| Some((link.take(start + at * MS, length)? - start).as_secs_f64() * 1e3)).collect()
    }

    #[test]
    fn nothing_happens_by_default() {
        let mut link = Link::new(Conditions::default(), 1);
        assert_eq!(arrivals(&mut link, 3, 65_507), [Some(0.0), Some(1.0), Some(2.0)]);
        assert_eq!(link.tally, Tally { passed: 3, ..Tally::default() });
    }

    #[test]
    fn delay_is_added_and_jitter_keeps_the_order() {
        let mut link = Link::new(Conditions { delay: 50 * MS, jitter: 20 * MS, ..Conditions::default() }, 2);
        let came: Vec<_> = arrivals(&mut link, 1000, 100).into_iter().flatten().collect();
        assert!(came.is_sorted());
        let waits: Vec<_> = came.iter().zip(0_u32..).map(|(came, sent)| came - f64::from(sent)).collect();
        assert!(waits.iter().all(|wait| (50.0..=70.0).contains(wait)), "{waits:?}");
        // Some chance is near each end.
        assert!(waits.iter().any(|wait| *wait < 62.0) && waits.iter().any(|wait| *wait > 69.0));
    }

    #[test]
    fn the_same_seed_gives_the_same_path_and_another_another() {
        let bad = Conditions { jitter: 9 * MS, loss: 0.2, reorder: (0.1, 5 * MS), ..Conditions::default() };
        let run = |seed| arrivals(&mut Link::new(bad, seed), 500, 100);
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn loss_and_reordering_come_in_their_shares() {
        let mut link = Link::new(Conditions { loss: 0.1, reorder: (0.05, 30 * MS), ..Conditions::default() }, 3);
        let came: Vec<_> = arrivals(&mut link, 20_000, 100).into_iter().flatten().collect();
        let Tally { passed, late, lost, .. } = link.tally;
        assert_eq!((passed, passed + lost), (came.len() as u64, 20_000));
        assert!((1_800..2_200).contains(&lost), "{lost}");
        assert!((800..1_000).contains(&late), "{late}");
        assert!(!came.is_sorted());
    }

    #[test]
    fn a_rate_spaces_packets_and_its_queue_is_bounded() {
        // 100 bytes a millisecond, room for 500: of ten packets at once five fit.
        let mut link = Link::new(Conditions { rate: Some(100_000), queue: 500, delay: 10 * MS, ..Conditions::default() }, 4);
        let start = Instant::now();
        let came: Vec<_> = (0..10).filter_map(|_| link.take(start, 100)).map(|at| (at - start).as_millis()).collect();
        assert_eq!(came, [11, 12, 13, 14, 15]);
        assert_eq!((link.tally.passed, link.tally.no_room), (5, 5));
        // One has left after a millisecond: one more fits.
        assert!(link.take(start + MS, 100).is_some());
        assert!(link.take(start + MS, 100).is_none());
        // And an empty queue starts from the packet's own time.
        assert_eq!((link.take(start + 100 * MS, 100).unwrap() - start).as_millis(), 111);
    }

    #[test]
    fn the_mtu_is_the_largest_payload_that_passes() {
        let mut link = Link::new(Conditions { mtu: Some(1280), ..Conditions::default() }, 5);
        assert_eq!([1280, 1281].map(|length| link.take(Instant::now(), length).is_some()), [true, false]);
        assert_eq!(link.tally, Tally { passed: 1, too_big: 1, ..Tally::default() });
    }

    async fn bound() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").await.unwrap()
    }

    async fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 2000];
        let (length, from) = timeout(Duration::from_secs(5), socket.recv_from(&mut buffer)).await.unwrap().unwrap();
        (buffer[..length].to_vec(), from)
    }

    #[tokio::test]
    async fn packets_cross_both_ways_after_their_delay() {
        let (server, client) = (bound().await, bound().await);
        let (out, back) = (Conditions { delay: 30 * MS, ..Conditions::default() }, Conditions { delay: 20 * MS, ..Conditions::default() });
        let path = Path::start(server.local_addr().unwrap(), 1, out, back).await.unwrap();

        let start = Instant::now();
        client.send_to(b"ping", path.address()).await.unwrap();
        let (payload, from) = received(&server).await;
        let there = start.elapsed();
        server.send_to(b"pong", from).await.unwrap();
        assert_eq!((&payload[..], received(&client).await), (&b"ping"[..], (b"pong".to_vec(), path.address())));
        assert!(there >= 30 * MS && start.elapsed() >= 50 * MS, "{there:?}, {:?}", start.elapsed());
        let one = Tally { passed: 1, ..Tally::default() };
        assert_eq!(path.tally(), (one, one));
    }

    #[tokio::test]
    async fn each_client_has_a_far_end_of_its_own() {
        let (server, one, two) = (bound().await, bound().await, bound().await);
        let path = Path::start(server.local_addr().unwrap(), 1, Conditions::default(), Conditions::default()).await.unwrap();
        one.send_to(b"1", path.address()).await.unwrap();
        let (_, first) = received(&server).await;
        two.send_to(b"2", path.address()).await.unwrap();
        let (_, second) = received(&server).await;
        assert_ne!(first, second);
        server.send_to(b"for two", second).await.unwrap();
        server.send_to(b"for one", first).await.unwrap();
        assert_eq!((received(&one).await.0, received(&two).await.0), (b"for one".to_vec(), b"for two".to_vec()));
    }

    #[tokio::test]
    async fn rebinding_changes_the_port_and_forgets_the_old_one() {
        let (server, client) = (bound().await, bound().await);
        let path = Path::start(server.local_addr().unwrap(), 1, Conditions::default(), Conditions::default()).await.unwrap();
        client.send_to(b"before", path.address()).await.unwrap();
        let (_, old) = received(&server).await;
        path.rebind().await;
        client.send_to(b"after", path.address()).await.unwrap();
        let (payload, new) = received(&server).await;
        assert_eq!(payload, b"after");
        assert_ne!(old, new);
        // The old port is closed: only the second answer comes.
        server.send_to(b"lost", old).await.unwrap();
        // On Linux the ICMP error of that packet may answer this one; it costs nothing but the call.
        while server.send_to(b"found", new).await.is_err() {}
        assert_eq!(received(&client).await.0, b"found");
    }

    #[tokio::test]
    async fn conditions_change_midway() {
        let (server, client) = (bound().await, bound().await);
        let path = Path::start(server.local_addr().unwrap(), 1, Conditions::default(), Conditions::default()).await.unwrap();
        client.send_to(b"one", path.address()).await.unwrap();
        received(&server).await;
        path.set_out(Conditions { loss: 1.0, ..Conditions::default() });
        client.send_to(b"two", path.address()).await.unwrap();
        while path.tally().0.lost == 0 {
            tokio::task::yield_now().await;
        }
        path.set_out(Conditions::default());
        client.send_to(b"three", path.address()).await.unwrap();
        let (payload, from) = received(&server).await;
        assert_eq!(payload, b"three");

        path.set_back(Conditions { delay: 30 * MS, ..Conditions::default() });
        let start = Instant::now();
        server.send_to(b"four", from).await.unwrap();
        assert_eq!(received(&client).await.0, b"four");
        assert!(start.elapsed() >= 30 * MS);
    }
}
