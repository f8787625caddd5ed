//! What works for as long as the host does is missed where it ends.

use super::life::{Life, Slack, fresh};

#[test]
fn each_part_that_ends_is_missed() {
    let slack = Slack::start();
    let names = Life::start(fresh(), &slack).engine().services.parts.names();
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        let life = Life::start(fresh(), &slack);
        let parts = &life.engine().services.parts;
        parts.break_off(name);
        let ended = life.wait(parts.ended());
        assert_eq!((ended.name, ended.why), (name, "it was broken off"));
    }
}

#[test]
fn a_host_that_stops_misses_none_of_its_parts() {
    use futures_util::FutureExt as _;
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    assert!(life.wait(life.engine().drain()));
    assert!(life.engine().services.parts.ended().now_or_never().is_none());
}
