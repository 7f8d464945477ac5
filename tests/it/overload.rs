//! P11 against the real daemon: at the bound of requests in flight a new one is refused at once, what has happened
//! passes, and the metrics say so.

use tokenswitch::config::Config;
use tokenswitch::sim::{Fault, FaultPlan, FaultRule};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::bad_input::{framed, message, mti_and_code, read_frame};
use crate::daemon::{Daemon, init};
use crate::metrics::{metrics, until};
use crate::players::{SEED, change, faulty_issuer, in_one_thread};

/// The next answer's MTI and DE 39.
async fn answered(stream: &mut TcpStream) -> (String, String) {
    mti_and_code(&read_frame(stream).await)
}

#[test]
fn a_full_switch_refuses_what_is_new_and_takes_what_has_happened() {
    in_one_thread(async {
        let kept = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let path =
            init(&kept.path().join("switch"), [&listener.local_addr().unwrap().to_string(), "127.0.0.1:1"]);
        change(&path, "timeout = \"10s\"", "timeout = \"4s\"");
        change(&path, "[settlement]", "[limits]\nin_flight = 2\n[settlement]");
        let config = Config::load(&path).unwrap();
        // It never answers a purchase.
        let silence = FaultRule { when: "mti=0200".parse().unwrap(), fault: Fault::Drop };
        let _issuer = faulty_issuer(&config.issuers[0].party, listener, FaultPlan::new(SEED, vec![silence]));
        let daemon = tokio::task::spawn_blocking(move || Daemon::start(&path)).await.unwrap();
        until(&daemon, "switch_signed_on", &[("link", "issuer-1")], 2.0).await;

        let mut acquirer = TcpStream::connect(&daemon.addresses["acquirer-1"]).await.unwrap();
        let send =
            |mti, stan: &str| framed(&message(mti, &[(2, "4761739001010119"), (14, "4912"), (11, stan)]));
        acquirer.write_all(&framed(&message("0800", &[(70, "001")]))).await.unwrap();
        assert_eq!(answered(&mut acquirer).await, ("0810".into(), "00".into()));
        for stan in ["000001", "000002", "000003"] {
            acquirer.write_all(&send("0200", stan)).await.unwrap();
        }
        assert_eq!(
            answered(&mut acquirer).await,
            ("0210".into(), "91".into()),
            "the third, while two are at the issuer"
        );
        until(&daemon, "switch_in_flight", &[], 2.0).await;
        let page = metrics(&daemon).await;
        assert_eq!(page.value("switch_in_flight_limit", &[]), 2.0);
        assert_eq!(page.value("switch_refused_total", &[("refusal", "overloaded")]), 1.0);
        acquirer.write_all(&send("0220", "000004")).await.unwrap();
        assert_eq!(answered(&mut acquirer).await, ("0230".into(), "00".into()), "an advice passes");
        for _ in 0..2 {
            assert_eq!(
                answered(&mut acquirer).await,
                ("0210".into(), "91".into()),
                "the issuer said nothing"
            );
        }
        until(&daemon, "switch_in_flight", &[], 0.0).await;
        tokio::task::spawn_blocking(move || daemon.stop()).await.unwrap();
    });
}
