//! Reads the kernel side's counts for the ledger of connects ([`crate::audit::ledger`]), and says when it is to be recorded.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use pgward_common::Counter;
use tracing::{error, info, warn};

use crate::{
    audit::{
        Now,
        ledger::{Account, Coverage, KernelSide, Ledger, LedgerRecord, Previous, Tally, resume},
    },
    bpf::{MapError, Maps},
};

/// The counts are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Looks in a window: so many stay without an answer before a connect is unexplained. Each window ends with a record, unless
/// nothing has changed.
const LOOKS: u32 = 12;
/// Where a record does not wait for a window, the counts are read until no connect is between two of them, at most this often.
const SETTLE_LOOKS: u32 = 50;
const SETTLE_PAUSE: Duration = Duration::from_millis(2);

/// Takes what is to be recorded.
pub(super) type Emit = Arc<dyn Fn(LedgerRecord) + Send + Sync>;

/// Keeps the ledger's account, and records it.
pub(super) struct Keeper {
    maps: Arc<Maps>,
    ledger: Arc<Ledger>,
    id: u64,
    emit: Emit,
    state: Mutex<State>,
}

struct State {
    account: Account,
    /// The last one recorded.
    recorded: Option<Coverage>,
    /// Dropped, the thread ends.
    running: Option<Sender<()>>,
}

impl Keeper {
    /// Goes on with the ledger, or begins one, and records where it stands. To be called before the agent has a listener.
    pub(super) fn start(
        maps: Arc<Maps>,
        ledger: Arc<Ledger>,
        previous: &Previous,
        emit: Emit,
    ) -> Result<Arc<Self>, MapError> {
        let id = maps.ledger_id(fresh_id())?;
        let kernel = read(&maps, id)?;
        if let Some(last) = previous.coverage.as_ref()
            && last.ledger == id
            && last.seen > kernel.last
        {
            error!(
                recorded = last.seen,
                counted = kernel.last,
                "fewer connects counted than recorded before: somebody changed the counters"
            );
        }
        let resumed = resume(previous, &kernel, Now::read().wall);
        if let Some(closing) = resumed.closing {
            warn!(count = closing.failed, "connects failed with counters that are gone");
            emit(LedgerRecord::Coverage(closing));
        }
        if resumed.crashed > 0 {
            warn!(count = resumed.crashed, "connects were lost with an agent before this one");
        }
        let account = Account::new(resumed.carried);
        let state = Mutex::new(State { account, recorded: None, running: None });
        let keeper = Arc::new(Self { maps, ledger, id, emit, state });
        keeper.record_settled()?;
        Ok(keeper)
    }

    /// Starts the thread that looks from time to time.
    pub(super) fn watch(self: &Arc<Self>) -> io::Result<()> {
        let (running, end) = channel();
        self.locked().running = Some(running);
        let keeper = self.clone();
        thread::Builder::new().name("coverage".into()).spawn(move || keeper.run(&end)).map(drop)
    }

    fn run(&self, end: &Receiver<()>) {
        let mut looks = 0;
        while end.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            looks = (looks + 1) % LOOKS;
            if let Err(error) = self.look(looks == 0) {
                warn!(%error, "cannot look at the counts of connects");
            }
        }
    }

    fn look(&self, window_ends: bool) -> Result<(), MapError> {
        let mut state = self.locked();
        if state.running.is_none() {
            return Ok(()); // the last record is made
        }
        let (tally, kernel) = self.read()?;
        state.account.observe(&self.ledger, &tally, &kernel);
        if window_ends {
            state.account.window_ends(&self.ledger);
            // What was explained right now is in a tally from now on.
            let coverage = state.account.coverage(&self.ledger.tally(), &kernel);
            self.record(&mut state, coverage);
        } else {
            // Those that failed have no record of their own: were the agent killed, their names would be lost.
            let coverage = state.account.coverage(&tally, &kernel);
            let told = state.recorded.as_ref().map_or(0, |recorded| recorded.failed);
            if coverage.failed != told {
                self.record(&mut state, coverage);
            }
        }
        Ok(())
    }

    /// The sums of now; what is unexplained is as of the last window.
    pub(super) fn coverage(&self) -> Result<Coverage, MapError> {
        let state = self.locked();
        let (tally, kernel) = self.read()?;
        Ok(state.account.coverage(&tally, &kernel))
    }

    /// The agent stops, and has no listeners any more: what it still had fails, and the last record is made.
    pub(super) fn stop(&self) -> Result<(), MapError> {
        let mut state = self.locked();
        state.running = None;
        state.account.agent_stops(&self.ledger, &read(&self.maps, self.id)?);
        drop(state);
        self.record_settled()
    }

    /// Records without waiting for a window. A connect that is on its way through the kernel side now has moments to get there.
    fn record_settled(&self) -> Result<(), MapError> {
        let mut state = self.locked();
        for _ in 0..SETTLE_LOOKS {
            let (tally, kernel) = self.read()?;
            if state.account.observe(&self.ledger, &tally, &kernel) {
                break;
            }
            thread::sleep(SETTLE_PAUSE);
        }
        state.account.window_ends(&self.ledger);
        let (tally, kernel) = self.read()?;
        let coverage = state.account.coverage(&tally, &kernel);
        self.record(&mut state, coverage);
        Ok(())
    }

    fn record(&self, state: &mut State, coverage: Coverage) {
        let Coverage { seen, intercepted, refused, failed, allowed, open, unexplained, .. } =
            coverage;
        if state.recorded.as_ref() == Some(&coverage) {
            return;
        }
        let ledger = format_args!("{:016x}", coverage.ledger).to_string();
        if unexplained > 0 || !coverage.closes() {
            warn!(
                ledger,
                seen,
                intercepted,
                refused,
                failed,
                allowed,
                open,
                unexplained,
                "connects without an explanation"
            );
        } else {
            info!(
                ledger,
                seen, intercepted, refused, failed, allowed, open, unexplained, "connects so far"
            );
        }
        (self.emit)(LedgerRecord::Coverage(coverage.clone()));
        state.recorded = Some(coverage);
    }

    fn read(&self) -> Result<(Tally, KernelSide), MapError> {
        let tally = self.ledger.tally();
        Ok((tally, read(&self.maps, self.id)?))
    }

    /// The account is whole whenever no call is under way.
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Against the course of a connect, as [`KernelSide`] asks for.
fn read(maps: &Maps, ledger: u64) -> Result<KernelSide, MapError> {
    const FIRST: [Counter; 6] = [
        Counter::HandedOver,
        Counter::NotSent,
        Counter::Abandoned,
        Counter::HandoverFull,
        Counter::HandoverDisplaced,
        Counter::HandoverUnkept,
    ];
    const THEN: [Counter; 8] = [
        Counter::SynMade,
        Counter::Redirected,
        Counter::RefusedAgentDown,
        Counter::RefusedStorage,
        Counter::RefusedImpostor,
        Counter::RefusedNamespace,
        Counter::RefusedSocket,
        Counter::AllowedAgentDown,
    ];
    let mut kernel = KernelSide { ledger, ..KernelSide::default() };
    let look = |kernel: &mut KernelSide, counter: Counter| -> Result<(), MapError> {
        kernel.counters[counter as usize] = maps.counter(counter)?;
        Ok(())
    };
    for counter in FIRST {
        look(&mut kernel, counter)?;
    }
    look(&mut kernel, Counter::SynMade)?;
    if kernel.must_wait() {
        kernel.waiting = maps.hand_overs()?;
    }
    for counter in THEN {
        look(&mut kernel, counter)?;
    }
    kernel.last = maps.last_connect()?;
    look(&mut kernel, Counter::ConnectSeen)?;
    Ok(kernel)
}

fn fresh_id() -> u64 {
    loop {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the kernel's generator is there since boot");
        let id = u64::from_ne_bytes(bytes);
        if id != 0 {
            return id;
        }
    }
}
