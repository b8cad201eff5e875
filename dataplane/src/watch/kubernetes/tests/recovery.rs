//! What happens when the server, or the way to it, fails.

use std::time::Instant;

use super::*;

#[tokio::test]
async fn after_410_only_the_differences_are_given_and_what_is_missing_is_gone_at_the_end() {
    let mut lab = Lab::services().await;
    let stream = lab.server.streaming_list().await;
    for (name, version) in [("a", "1"), ("b", "2"), ("c", "3")] {
        stream.added(&service(name, version, "172.30.0.1"));
    }
    stream.complete("4");
    lab.expect(&["+x/a 172.30.0.1", "+x/b 172.30.0.1", "+x/c 172.30.0.1", "synced services"]).await;
    stream.expired();
    let again = lab.server.streaming_list().await;
    again.added(&service("a", "1", "172.30.0.1"));
    again.added(&service("b", "12", "172.30.0.2"));
    again.added(&service("d", "13", "172.30.0.4"));
    lab.expect(&["+x/b 172.30.0.2", "+x/d 172.30.0.4"]).await;
    lab.expect_quiet().await;
    again.complete("14");
    lab.expect(&["-x/c"]).await;
    lab.expect_quiet().await;
    assert_eq!(lab.status.kind(ObjectKind::Service).lists(), 2);
    assert_eq!(lab.errors(ObjectKind::Service, ErrorReason::Expired), 1);
}

#[tokio::test]
async fn a_list_that_breaks_off_takes_nothing_away() {
    let mut lab = Lab::services().await;
    let stream = lab.server.streaming_list().await;
    stream.added(&service("a", "1", "172.30.0.1"));
    stream.added(&service("b", "2", "172.30.0.2"));
    stream.complete("4");
    lab.expect(&["+x/a 172.30.0.1", "+x/b 172.30.0.2", "synced services"]).await;
    stream.expired();
    let broken = lab.server.streaming_list().await;
    broken.added(&service("a", "1", "172.30.0.1"));
    broken.cut();
    let again = lab.server.streaming_list().await;
    lab.expect_quiet().await;
    again.added(&service("b", "2", "172.30.0.2"));
    again.complete("5");
    lab.expect(&["-x/a"]).await;
}

#[tokio::test]
async fn a_page_token_that_has_expired_starts_the_list_again() {
    let mut lab = Lab::services().await;
    lab.server.call().await.refuse(400, None);
    lab.server.call().await.page("20", Some("next"), &[service("a", "5", "172.30.0.1")]);
    lab.server.call().await.refuse(410, None);
    let call = lab.server.call().await;
    assert!(call.is("limit", "500") && !call.query.contains_key("continue"), "{:?}", call.query);
    call.page("21", None, &[service("a", "5", "172.30.0.1"), service("b", "6", "172.30.0.2")]);
    lab.expect(&["+x/a 172.30.0.1", "+x/b 172.30.0.2", "synced services"]).await;
}

#[tokio::test]
async fn a_broken_connection_resumes_from_the_last_version_heard() {
    let mut lab = Lab::services().await;
    let stream = lab.server.streaming_list().await;
    stream.complete("4");
    lab.expect(&["synced services"]).await;
    stream.cut();
    let stream = lab.server.watch_from("4").await;
    stream.added(&service("a", "5", "172.30.0.1"));
    lab.expect(&["+x/a 172.30.0.1"]).await;
    stream.cut();
    let stream = lab.server.watch_from("5").await;
    stream.bookmark("9");
    // Half a line is no event.
    stream.raw("{\"type\": \"DELETED\", \"object\": {\"metadata\": {\"name\": \"a\"");
    // The server's own buffer goes down with the connection: let it be emptied.
    lab.expect_quiet().await;
    stream.cut();
    let stream = lab.server.watch_from("9").await;
    drop(stream);
    lab.server.watch_from("9").await;
    lab.expect_quiet().await;
    assert_eq!(lab.status.kind(ObjectKind::Service).lists(), 1);
    assert!(lab.errors(ObjectKind::Service, ErrorReason::Transport) >= 3);
}

#[tokio::test]
async fn an_event_in_pieces_is_put_together() {
    let mut lab = Lab::services().await;
    let stream = lab.server.streaming_list().await;
    let line = json!({"type": "ADDED", "object": service("a", "5", "172.30.0.1")}).to_string();
    for piece in line.as_bytes().chunks(7) {
        stream.raw(std::str::from_utf8(piece).unwrap());
        tokio::task::yield_now().await;
    }
    lab.expect_quiet().await;
    stream.raw("\n\n");
    lab.expect(&["+x/a 172.30.0.1"]).await;
}

#[tokio::test]
async fn throttling_is_respected() {
    let mut lab = Lab::services().await;
    lab.server.call().await.refuse(429, Some(2));
    let refused = Instant::now();
    let stream = lab.server.streaming_list().await;
    let waited = refused.elapsed();
    assert!(waited >= Duration::from_secs(2) && waited < Duration::from_secs(4), "{waited:?}");
    stream.complete("1");
    lab.expect(&["synced services"]).await;
    assert_eq!(lab.errors(ObjectKind::Service, ErrorReason::Throttled), 1);
}

#[tokio::test]
async fn a_refusal_is_no_reason_to_give_up_streaming() {
    let mut lab = Lab::services().await;
    for code in [500, 503, 403, 401] {
        lab.server.call().await.refuse(code, None);
    }
    let stream = lab.server.streaming_list().await;
    stream.complete("1");
    lab.expect(&["synced services"]).await;
    assert_eq!(lab.errors(ObjectKind::Service, ErrorReason::Server), 2);
    assert_eq!(lab.errors(ObjectKind::Service, ErrorReason::Forbidden), 2);
}

#[tokio::test]
async fn the_first_change_after_an_outage_is_given_within_two_seconds() {
    let mut lab = Lab::services().await;
    let stream = lab.server.streaming_list().await;
    stream.complete("4");
    lab.expect(&["synced services"]).await;
    lab.server.stop().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!lab.status.kind(ObjectKind::Service).connected());
    assert!(lab.errors(ObjectKind::Service, ErrorReason::Transport) >= 4);
    lab.server.listen().await;
    let back = Instant::now();
    let stream = lab.server.watch_from("4").await;
    stream.added(&service("a", "5", "172.30.0.1"));
    lab.expect(&["+x/a 172.30.0.1"]).await;
    assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
}

#[tokio::test]
async fn a_server_that_has_gone_back_in_time_is_listed_anew() {
    let mut lab = Lab::services().await;
    let stream = lab.server.streaming_list().await;
    stream.added(&service("a", "900", "172.30.0.1"));
    stream.complete("1000");
    lab.expect(&["+x/a 172.30.0.1", "synced services"]).await;
    stream.bookmark("12");
    let stream = lab.server.streaming_list().await;
    stream.complete("12");
    lab.expect(&["-x/a"]).await;
}

#[tokio::test]
async fn a_version_ahead_of_the_server_leads_to_a_new_list() {
    let mut lab = Lab::services().await;
    let stream = lab.server.streaming_list().await;
    stream.complete("1000");
    lab.expect(&["synced services"]).await;
    let details =
        json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]});
    stream.event("ERROR", &json!({"kind": "Status", "code": 504, "reason": "Timeout", "details": details}));
    lab.server.streaming_list().await;
}

#[tokio::test]
async fn a_server_that_breaks_off_every_list_is_not_called_in_a_rush() {
    let mut lab = Lab::services().await;
    let begin = Instant::now();
    for version in 0..6 {
        let stream = lab.server.streaming_list().await;
        stream.added(&service("a", &version.to_string(), "172.30.0.1"));
        lab.expect(&["+x/a 172.30.0.1"]).await;
    }
    assert!(begin.elapsed() > Duration::from_millis(250), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_server_that_ends_every_watch_at_once_is_not_called_in_a_rush() {
    let mut lab = Lab::services().await;
    let stream = lab.server.streaming_list().await;
    stream.complete("4");
    lab.expect(&["synced services"]).await;
    drop(stream);
    let begin = Instant::now();
    for _ in 0..6 {
        drop(lab.server.watch_from("4").await);
    }
    assert!(begin.elapsed() > Duration::from_millis(250), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn events_wait_for_a_slow_receiver() {
    let mut lab = Lab::services().await;
    let stream = lab.server.streaming_list().await;
    for number in 0..200 {
        stream.added(&service(&format!("s{number}"), &number.to_string(), "172.30.0.1"));
    }
    stream.complete("1000");
    tokio::time::sleep(Duration::from_millis(300)).await;
    lab.server.expect_no_call(Duration::from_millis(10)).await;
    for number in 0..200 {
        assert_eq!(lab.next().await, format!("+x/s{number} 172.30.0.1"));
    }
    lab.expect(&["synced services"]).await;
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_no_failure() {
    let mut lab = Lab::services().await;
    let stream = lab.server.streaming_list().await;
    stream.complete("4");
    lab.expect(&["synced services"]).await;
    // Long enough to be a watch that ended in its time.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    drop(stream);
    // The request arrives over the kept connection, which then ends without an answer.
    lab.server.call().await.hang_up();
    lab.server.watch_from("4").await;
    assert_eq!(lab.errors(ObjectKind::Service, ErrorReason::Transport), 0);
}
