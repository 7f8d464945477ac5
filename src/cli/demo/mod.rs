//! `demo`: issuers, switch, vault, API and an acquirer in one process, on free loopback ports. It tells the story of
//! one authorization hop by hop, three that go another way, a cardholder that has to prove itself, and ends with ten
//! seconds of load. Whatever does not come out as told makes it fail.

mod load;
mod page;
mod stage;
mod story;

use std::path::PathBuf;
use std::time::Duration;

use super::Failure;
use page::Page;
use stage::Stage;

/// Shows the whole main job on real TCP connections: provisioning, a tap, a decline, a time-out with its reversal, a
/// token outside its domain, a cardholder's proof, and load.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Leave everything running at the end, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// How long the load lasts; 0 leaves it out.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    seconds: u64,
    /// Connections of the load.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Unanswered payments on each connection of the load.
    #[arg(long, default_value_t = 64)]
    outstanding: usize,
    /// Tokens that the load taps.
    #[arg(long, default_value_t = 1_000)]
    tokens: usize,
    /// Where configuration, keys and journal go; a new directory that is removed at the end, when not given.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Log lines of all parts on standard error, as `TOKENSWITCH_LOG` filters them; without it warnings only.
    #[arg(long)]
    log: bool,
}

/// The load as asked for.
#[derive(Debug, Clone, Copy)]
struct LoadPlan {
    lasts: Duration,
    outstanding: usize,
}

pub(super) fn run(arguments: &Demo) -> Result<(), Failure> {
    let _log = if arguments.log { Some(super::log::start(false)?) } else { None };
    super::host::raise_file_limit();
    let page = Page::of_standard_output();
    super::simulate::on_one_thread(perform(arguments, &page))?
}

async fn perform(arguments: &Demo, page: &Page) -> Result<(), Failure> {
    page.title("tokenswitch: a card-network switch and a token vault in one daemon");
    let mut stage = Stage::set_up(arguments.directory.clone(), arguments.connections).await?;
    stage.introduce(page);
    story::tell(&mut stage, page).await?;
    if arguments.seconds > 0 {
        let plan =
            LoadPlan { lasts: Duration::from_secs(arguments.seconds), outstanding: arguments.outstanding };
        load::run(&mut stage, plan, arguments.tokens, page).await?;
    }
    if arguments.keep {
        page.say(&format!(
            "Everything is left running. Its files are in {}. Ctrl-C ends it.",
            stage.directory().display()
        ));
        super::simulate::asked_to_stop().await;
    }
    let mended = stage.take_down(page).await?;
    if mended { Ok(()) } else { Err(Failure::new("the demo did not come out as told")) }
}
