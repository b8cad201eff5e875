use super::*;
use crate::domain::IpFamily;
use crate::serve::http::test_client::{Answer, patient_get, request};
use crate::serve::{Clock, RecordedEvents};

struct Lab {
    servers: NodePortServers,
    health: Arc<HealthMonitor>,
    clock: Clock,
    events: Arc<RecordedEvents>,
}

fn lab() -> Lab {
    let clock = Clock::manual("2026-05-04T03:02:01Z".parse().unwrap());
    let health = Arc::new(HealthMonitor::new(Duration::from_mins(1), clock.clone()));
    health.applied(IpFamily::V4);
    let events = Arc::new(RecordedEvents::default());
    let sink: Arc<dyn EventSink> = Arc::<RecordedEvents>::clone(&events);
    let servers = NodePortServers::retrying("n1", Arc::clone(&health), sink, Duration::from_millis(20));
    Lab { servers, health, clock, events }
}

fn service(name: &str, local_endpoints: usize) -> HealthCheckService {
    HealthCheckService { name: ServiceName::new("shop", name), uid: "u-1".into(), local_endpoints }
}

fn loopback() -> ListenOn {
    ListenOn::Only(["127.0.0.1".parse().unwrap()].into())
}

/// A port that nobody uses.
async fn free_port() -> u16 {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

async fn get(host: &str, port: u16) -> io::Result<Answer> {
    request(SocketAddr::new(host.parse().unwrap(), port), "GET", "/any/path", "", "").await
}

#[tokio::test]
async fn the_answer_is_that_of_kube_proxy_to_the_letter() {
    let mut lab = lab();
    let port = free_port().await;
    lab.servers.sync([(port, service("web", 2))].into(), &loopback()).await;
    let answer = get("127.0.0.1", port).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body,
        "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n\t\"localEndpoints\": 2,\n\
         \t\"serviceProxyHealthy\": true\n}"
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("x-load-balancing-endpoint-weight"), Some("2"));
}

#[tokio::test]
async fn no_local_endpoint_or_a_late_proxy_answers_503() {
    let mut lab = lab();
    let port = free_port().await;
    lab.servers.sync([(port, service("web", 0))].into(), &loopback()).await;
    let answer = get("127.0.0.1", port).await.unwrap();
    assert_eq!((answer.status, answer.header("x-load-balancing-endpoint-weight")), (503, Some("0")));
    assert!(answer.body.ends_with("\"localEndpoints\": 0,\n\t\"serviceProxyHealthy\": true\n}"));

    lab.servers.sync([(port, service("web", 3))].into(), &loopback()).await;
    lab.health.queued(IpFamily::V4);
    lab.clock.advance(Duration::from_mins(1));
    let answer = get("127.0.0.1", port).await.unwrap();
    assert_eq!((answer.status, answer.header("x-load-balancing-endpoint-weight")), (503, Some("3")));
    assert!(answer.body.ends_with("\"localEndpoints\": 3,\n\t\"serviceProxyHealthy\": false\n}"));
}

#[tokio::test]
async fn a_changed_count_keeps_the_socket_and_open_connections() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut lab = lab();
    let port = free_port().await;
    lab.servers.sync([(port, service("web", 1))].into(), &loopback()).await;
    let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut answers = Vec::new();
    for count in [1, 5] {
        lab.servers.sync([(port, service("web", count))].into(), &loopback()).await;
        connection.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
        let mut buffer = [0; 4096];
        let read = connection.read(&mut buffer).await.unwrap();
        answers.push(String::from_utf8_lossy(&buffer[..read]).contains(&format!("weight: {count}\r\n")));
    }
    assert_eq!(answers, [true, true]);
}

#[tokio::test]
async fn a_changed_port_closes_the_old_socket_with_its_connections_and_opens_the_new_one() {
    use tokio::io::AsyncReadExt;

    let mut lab = lab();
    let (old, new) = (free_port().await, free_port().await);
    lab.servers.sync([(old, service("web", 1))].into(), &loopback()).await;
    let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", old)).await.unwrap();
    lab.servers.sync([(new, service("web", 1))].into(), &loopback()).await;
    assert_eq!(get("127.0.0.1", old).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(get("127.0.0.1", new).await.unwrap().status, 200);
    let end = tokio::time::timeout(Duration::from_secs(5), connection.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    lab.servers.sync(BTreeMap::new(), &loopback()).await;
    assert_eq!(get("127.0.0.1", new).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(lab.events.all(), []);
}

#[tokio::test]
async fn a_port_moves_between_all_addresses_and_some_without_a_failure() {
    let mut lab = lab();
    let port = free_port().await;
    let wanted = || BTreeMap::from([(port, service("web", 1))]);
    for (addresses, elsewhere) in [(ListenOn::All, true), (loopback(), false), (ListenOn::All, true)] {
        lab.servers.sync(wanted(), &addresses).await;
        assert_eq!(get("127.0.0.1", port).await.unwrap().status, 200);
        for host in ["127.0.0.2", "::1"] {
            assert_eq!(get(host, port).await.is_ok(), elsewhere, "{host} {addresses:?}");
        }
    }
    assert_eq!(lab.events.all(), []);
}

#[tokio::test]
async fn a_service_that_takes_over_a_port_keeps_its_socket() {
    let mut lab = lab();
    let port = free_port().await;
    lab.servers.sync([(port, service("old", 1))].into(), &loopback()).await;
    lab.servers.sync([(port, service("new", 0))].into(), &loopback()).await;
    let answer = get("127.0.0.1", port).await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("\"name\": \"new\""), "{}", answer.body);
}

#[test]
fn a_request_for_a_service_that_is_gone_gets_an_empty_200() {
    let health = HealthMonitor::new(Duration::from_mins(1), Clock::System);
    let response = answer(&Services::default(), &health, 30_000);
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().get("content-type").is_none());
}

#[tokio::test]
async fn a_port_in_use_is_told_once_and_opened_when_it_is_free() {
    let mut lab = lab();
    let blocker = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (taken, port) = (blocker.local_addr().unwrap().port(), free_port().await);
    let wanted = || BTreeMap::from([(taken, service("web", 1)), (port, service("api", 1))]);
    lab.servers.sync(wanted(), &loopback()).await;
    lab.servers.sync(wanted(), &loopback()).await;

    assert_eq!(get("127.0.0.1", port).await.unwrap().status, 200, "others are not held up");
    let events = lab.events.all();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].object, EventObject::Service(ServiceName::new("shop", "web"), "u-1".into()));
    assert_eq!((events[0].reason, events[0].action), ("FailedToStartServiceHealthcheck", "Listen"));
    let start = format!("node n1 failed to start healthcheck \"shop/web\" on port {taken}: ");
    assert!(events[0].message.starts_with(&start), "{}", events[0].message);

    drop(blocker);
    assert_eq!(patient_get(SocketAddr::from((Ipv4Addr::LOCALHOST, taken)), "/").await.status, 200);
    assert_eq!(lab.events.all().len(), 1);
}

#[tokio::test]
async fn dropping_the_servers_closes_them() {
    let mut lab = lab();
    let port = free_port().await;
    lab.servers.sync([(port, service("web", 1))].into(), &loopback()).await;
    drop(lab.servers);
    for _ in 0..100 {
        if get("127.0.0.1", port).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still open");
}
