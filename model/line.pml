/* line.pml models one sale at the grain of its scripts and transactions: each atomic block below is one script of
   queue/lua or one transaction of the database. Orders are of one unit, each by a user of its own.

   Bounds (-D): T tickets, S units, W workers, K keepers, F failovers of Redis, D losses of the database's last commits,
   N rebuilds that nothing calls for, C deaths of a keeper, E the highest epoch. CANCEL lets owners cancel; SWAP lets
   Redis' data be older under the same identity. For simulations PLAY also takes the steps that are refused, which
   change nothing, and MIDWAY lets failovers fall into rebuilds, whose half is handed over.

   Mutations (-DM_…) plant one fault each; instances.go lists them. Every one must be found. */

#ifndef T
#define T 2
#endif
#ifndef S
#define S 1
#endif
#ifndef W
#define W 1
#endif
#ifndef K
#define K 1
#endif
#ifndef F
#define F 0
#endif
#ifndef D
#define D 0
#endif
#ifndef N
#define N 0
#endif
#ifndef C
#define C 0
#endif
#ifndef E
#define E 4
#endif

/* What the line remembers of an order (rec), and where it lists it (at). */
#define NONE      0
#define QUEUED    1
#define CONFIRMED 2
#define ENDED     3  /* failed, or cancelled after it was an order */
#define CANCELLED 4  /* by its owner, in the line: its row is still to be written */
#define HELD      5  /* the same of a ticket that a worker had before: its unit returns when the end is written down */

#define OUT     0
#define WAITING 1    /* nobody has claimed it since the line was opened: its owner may cancel it */
#define SUSPECT 2
#define LEASED  3    /* LEASED + w: worker w holds it */

/* What the ledger holds of an order (row): nothing, or its state. */
#define LIVE     1
#define FAILED   2
#define RETURNED 3   /* cancelled; the line has not heard of it (released = 0) */
#define RELEASED 4   /* cancelled; the line has heard of it */

/* The steps, as a simulation prints them. */
mtype = {
  Admit, AdmitRefused, Cancel, CancelHeld, End, ReadEnded, Release, ReleaseRefused, Forget, Mark, Commit, Settle,
  SettleRefused, Claim, Reclaim, Lock, Death, Gate, GateRefused, Survey, EndHeld, EndRefused, PutBack, ReadLedger, Restore,
  RestoreRefused, Reopen, ReopenRefused, Copy, TakeOver, Dump, LoseCommits
}

typedef Line { byte home = 1; byte epoch = 1; byte gate; short stock = S; byte rec[T]; byte at[T] }
typedef Ledger { byte epoch = 1; short available = S; byte row[T] }

Line line;               /* on the server that is master */
Line old;                /* what the server that takes over has heard of it */
byte server = 1;         /* identity of the master: new at each start and each promotion */
bool behind;             /* the data are older than what their callers have seen */
Ledger ledger;
Ledger dump;             /* what the database that takes over has heard of it */

/* What may happen at any moment happens so often in a simulation, or it would do little else. */
#ifdef PLAY
byte reclaims = 2, refusals = 3, exits = 2, failures = 1, wishes = 1;
#define MAY(n) (n > 0)
#define DID(n) n--
#else
#define MAY(n) true
#define DID(n) skip
#endif
byte failovers = F, losses = D, needless = N, deaths = C;

/* What shoppers were told, for the invariants alone. */
bool accepted[T];        /* 202 */
bool told[T];            /* confirmed */
bool gone[T];            /* a loss of Redis' data took the ticket, and is recorded */
bool wished[T];          /* cancelled, while nothing can be lost */

byte i;
short flight, unheard, missing;

#ifdef M_NO_FENCE
#define OURS(id) true
#else
#define OURS(id) (id == server)
#endif
#ifdef M_NO_REVISION
#define FENCE (line.epoch && OURS(line.home))
#else
#define FENCE (line.epoch && OURS(line.home) && !behind)
#endif
#ifdef M_GATE_ANYWHERE
#define GATED(e) (line.epoch == e && line.gate)
#else
#define GATED(e) (line.epoch == e && line.gate && OURS(line.gate))
#endif
#define OPEN (FENCE && !line.gate)
#define WISHED(rec) (rec == CANCELLED || rec == HELD)
#define LISTED(t) (line.at[t] == WAITING || line.at[t] == SUSPECT)

/* LOST is a row that the database lost, or that a worker wrote as failed since: what was confirmed never fails. */
#ifdef M_FAILED_STAYS
#define LOST(row) (row == NONE)
#else
#define LOST(row) (row == NONE || row == FAILED)
#endif

/* count splits the units that the ledger has and the stock has not. */
inline count() {
  i = 0; flight = 0; unheard = 0; missing = 0;
  do
  :: i < T ->
     flight = flight + ((line.rec[i] == QUEUED || line.rec[i] == HELD) && line.at[i] != OUT && ledger.row[i] != LIVE);
     unheard = unheard + (line.rec[i] == CONFIRMED && ledger.row[i] == RETURNED);
     missing = missing + (line.rec[i] == CONFIRMED && (ledger.row[i] == NONE || ledger.row[i] == FAILED));
     i++
  :: else -> break
  od
}

/* promise asserts, before a ticket is admitted, that a unit is left that is promised to nobody else. */
inline promise() {
  d_step { count(); assert(ledger.available > flight + missing); flight = 0; unheard = 0; missing = 0; i = 0 }
}

/* say names a step and the state after it, for the test that plays it. */
inline say(step, a, b) {
  printf("STEP %e %d %d | verified=%d gate=%d epoch=%d stock=%d rec=%d,%d at=%d,%d | epoch=%d available=%d row=%d,%d\n",
    step, a, b, line.home == server, line.gate != 0, line.epoch, line.stock,
    line.rec[0], line.rec[T-1], (line.at[0] > LEASED -> LEASED : line.at[0]),
    (line.at[T-1] > LEASED -> LEASED : line.at[T-1]),
    ledger.epoch, ledger.available, ledger.row[0], ledger.row[T-1])
}

/* check asserts the invariants; it ends every step. */
inline check(step, a, b) {
  say(step, a, b);
  d_step {
    i = 0; flight = 0;
    do
    :: i < T ->
       flight = flight + (ledger.row[i] == LIVE);
       /* An order that was told confirmed is in the ledger, or the line still knows to put it back. */
       assert(!told[i] || ledger.row[i] == LIVE || ledger.row[i] >= RETURNED || (D && line.rec[i] == CONFIRMED));
       i++
    :: else -> break
    od;
    /* The ledger is whole: nothing oversold, nothing taken twice. */
    assert(ledger.available >= 0 && ledger.available + flight == S);
    if
    :: line.home == server && !line.gate && !behind ->
       count();
       /* Both stores agree to the unit. */
       assert(ledger.available == line.stock + flight + unheard + missing);
       i = 0;
       do
       :: i < T ->
          /* What was answered 202 is an order, a ticket, an end that was told, or a recorded loss. */
          assert(!wished[i] || WISHED(line.rec[i]) || ledger.row[i] >= RETURNED); /* what was cancelled stays so */
          assert(!accepted[i] || ledger.row[i] || gone[i] || line.rec[i] == CONFIRMED || line.rec[i] == ENDED ||
                 (line.rec[i] && line.at[i]));
          i++
       :: else -> break
       od
    :: else
    fi;
    flight = 0; unheard = 0; missing = 0; i = 0
  }
}

/* A gateway knows an epoch, perhaps an old one, and asks for a ticket. */
proctype Gateway(byte t) {
  byte epoch;
  do
  :: atomic { epoch = ledger.epoch }
     if
     :: atomic { OPEN && line.epoch == epoch && line.rec[t] == NONE && line.stock > 0 ->
          promise();
          line.stock--; line.rec[t] = QUEUED; line.at[t] = WAITING;
          accepted[t] = true; gone[t] = false;
          epoch = 0; check(Admit, t, 0) }
#ifdef PLAY
     :: atomic { !(OPEN && line.epoch == epoch) && MAY(refusals) ->
          DID(refusals); say(AdmitRefused, t, epoch); epoch = 0 }
#endif
     :: atomic { epoch = 0 }
     fi
#ifdef CANCEL
  :: atomic { OPEN && line.rec[t] == QUEUED && line.at[t] == WAITING && MAY(wishes) ->
       DID(wishes); line.rec[t] = CANCELLED; line.stock++; wished[t] = (F == 0 && D == 0);
       check(Cancel, t, 0) }
  :: atomic { OPEN && line.rec[t] == QUEUED && line.at[t] == SUSPECT && MAY(wishes) ->
       DID(wishes); wished[t] = (F == 0 && D == 0);
#ifdef M_FREE_AT_ONCE
       line.rec[t] = CANCELLED; line.stock++;
#else
       line.rec[t] = HELD;
#endif
       check(CancelHeld, t, 0) }
#endif
  od
}

#ifdef CANCEL
/* An owner cancels an order in the ledger; its unit is there at once, and in the line after the releaser's round. */
proctype Owner(byte t) {
  do
  :: atomic { OPEN && line.rec[t] != QUEUED && line.rec[t] != CANCELLED && line.rec[t] != HELD && ledger.row[t] == LIVE ->
       ledger.row[t] = RETURNED; ledger.available++; told[t] = false;
       check(End, t, 0) }
  od
}

/* The releaser reads which orders have ended, tells the line, and then writes down that it was told. */
proctype Releaser() {
  bool ended[T]; byte t;
begin:
  atomic { t = 0; do :: t < T -> ended[t] = false; t++ :: else -> break od; t = 0 }
  atomic {
    (ledger.row[0] == RETURNED || ledger.row[T-1] == RETURNED) ->
    do :: t < T -> ended[t] = (ledger.row[t] == RETURNED); t++ :: else -> break od; t = 0;
    say(ReadEnded, 0, 0)
  }
  atomic {
    if
    :: OPEN ->
       do
       :: t < T ->
          if
#ifdef M_RELEASE_ANY
          :: ended[t] && line.rec[t] != NONE -> line.rec[t] = ENDED; line.stock++
#else
          :: ended[t] && line.rec[t] == CONFIRMED -> line.rec[t] = ENDED; line.stock++
#endif
          :: else
          fi;
          t++
       :: else -> break
       od; t = 0;
       check(Release, 0, 0)
    :: else -> say(ReleaseRefused, 0, 0); goto begin
    fi
  }
  if :: say(Forget, 0, 0); goto begin :: true fi; /* it may die in between */
  atomic {
    do
    :: t < T -> if :: ended[t] && ledger.row[t] == RETURNED -> ledger.row[t] = RELEASED :: else fi; t++
    :: else -> break
    od; t = 0;
    check(Mark, 0, 0)
  }
  goto begin
}
#endif

/* What the transaction found, for settle. */
#define STALE   5
#define CLOSE   6

/* commit is the one transaction: the row and its unit, or neither. */
inline commit() {
  atomic {
    if
    :: known == CONFIRMED || known == ENDED -> found = CLOSE
#ifdef M_FAILURE_STAYS
    :: known == CANCELLED && ledger.row[t] != NONE -> found = CLOSE
#else
    :: known == CANCELLED && ledger.row[t] != NONE && ledger.row[t] != FAILED -> found = CLOSE
    :: (known == CANCELLED || known == HELD) && ledger.row[t] == FAILED -> /* an earlier worker gave it up */
       ledger.row[t] = RELEASED; found = CLOSE
#endif
    :: known == CANCELLED && ledger.row[t] == NONE -> ledger.row[t] = RELEASED; found = CLOSE
    :: known == HELD && ledger.row[t] == NONE -> ledger.row[t] = RELEASED; found = CLOSE
#ifdef M_FAILURE_STAYS
    :: known == HELD && ledger.row[t] == FAILED -> found = CLOSE
#endif
    :: known == HELD && ledger.row[t] >= RETURNED -> found = CLOSE
#ifdef M_ORDER_STAYS
    :: known == HELD && ledger.row[t] == LIVE -> found = CLOSE
#else
    :: known == HELD && ledger.row[t] == LIVE && ledger.epoch == epoch -> /* an earlier worker made an order of it */
       ledger.row[t] = RELEASED; ledger.available++; found = CLOSE
    :: known == HELD && ledger.row[t] == LIVE && ledger.epoch != epoch -> found = STALE
#endif
#ifndef M_NO_KEY
    :: known == QUEUED && ledger.row[t] != NONE -> found = ledger.row[t]
#endif
#ifdef M_NO_KEY
    :: known == QUEUED && ledger.available > 0 -> ledger.row[t] = LIVE; ledger.available--; found = LIVE
#else
    :: known == QUEUED && ledger.row[t] == NONE && ledger.available > 0 &&
#ifdef M_NO_EPOCH
       true ->
#else
       ledger.epoch == epoch ->
#endif
       ledger.row[t] = LIVE; ledger.available--; found = LIVE
#endif
    :: known == QUEUED && ledger.row[t] == NONE && ledger.available > 0 && ledger.epoch != epoch -> found = STALE
    :: known == QUEUED && ledger.row[t] == NONE && ledger.available == 0 -> ledger.row[t] = FAILED; found = FAILED
    :: known == QUEUED && ledger.row[t] == NONE && ledger.available > 0 && MAY(failures) -> /* given up */
       DID(failures); ledger.row[t] = FAILED; found = FAILED
    fi;
#ifdef M_SETTLE_FIRST
    say(Commit, w, found)
#else
    check(Commit, w, found)
#endif
  }
}

/* settle ends the batch, if its lease stands. */
inline settle() {
  atomic {
    if
#ifdef M_NO_LEASE
    :: FENCE && line.rec[t] != NONE ->
#else
    :: FENCE && line.at[t] == LEASED + w ->
#endif
       if
       :: found == STALE -> line.at[t] = SUSPECT
       :: found == CLOSE ->
          line.at[t] = OUT;
          if
          :: line.rec[t] == CANCELLED -> line.rec[t] = ENDED
          :: line.rec[t] == HELD -> line.rec[t] = ENDED; line.stock++
          :: else
          fi
       :: found == LIVE ->
          line.at[t] = OUT;
          if :: line.rec[t] == QUEUED -> line.rec[t] = CONFIRMED; told[t] = true :: else fi
       :: else ->
          line.at[t] = OUT;
          if :: line.rec[t] == QUEUED -> line.rec[t] = ENDED; line.stock++ :: else fi
       fi;
       check(Settle, w, t)
    :: else -> say(SettleRefused, w, t)
    fi
  }
}

/* die lets a worker die between two of its steps: its lease stays behind. */
inline die() {
#ifdef PLAY
  if :: atomic { MAY(exits) -> DID(exits); goto idle } :: true fi
#else
  if :: goto idle :: true fi
#endif
}

proctype Worker(byte w) {
  byte t, epoch, known, found;
idle:
  atomic { t = 0; epoch = 0; known = 0; found = 0 }
  do
  :: atomic { OPEN && LISTED(0) -> t = 0; goto claim }
  :: atomic { OPEN && T > 1 && LISTED(T-1) -> t = T-1; goto claim }
  od;
claim:
  atomic {
    if
    :: OPEN && LISTED(t) -> skip
    :: else -> goto idle
    fi;
    line.at[t] = LEASED + w; epoch = line.epoch; known = line.rec[t];
    check(Claim, w, t)
  }
  die();
#ifdef M_SETTLE_FIRST
  found = LIVE;
  settle();
  die();
  commit();
#else
  commit();
  die();
  settle();
#endif
  goto idle
}

/* A lease may run out at any moment. */
proctype Reclaimer(byte t) {
  do
  :: atomic { FENCE && line.at[t] >= LEASED && MAY(reclaims) ->
       DID(reclaims); line.at[t] = SUSPECT; check(Reclaim, t, 0) }
  od
}

/* wrong is what a keeper notices: another server, another epoch, a rebuild that was begun, a standing difference. */
#ifdef M_SCRIPT_ON_REPLICA
#define UNVERIFIED (line.epoch == 0)
#else
#define UNVERIFIED (line.home != server || line.epoch == 0 || behind)
#endif

/* endHeld ends the orders of tickets that were cancelled; a rebuild that somebody else has overtaken ends none. */
inline endHeld() {
  do
  :: t < T ->
     if
     :: listed[t] == HELD && ledger.row[t] == LIVE ->
        if
        :: ledger.epoch == epoch -> ledger.row[t] = RELEASED; ledger.available++
        :: else -> say(EndRefused, k, epoch); goto look
        fi
     :: else
     fi;
     t++
  :: else -> break
  od; t = 0
}

proctype Keeper(byte k) {
  byte epoch, t; short available; byte listed[T]; byte row[T]; byte kept[T];
look:
  atomic { epoch = 0; available = 0; t = 0;
    do :: t < T -> listed[t] = 0; row[t] = 0; kept[t] = 0; t++ :: else -> break od; t = 0 }
  do
  :: atomic { ledger.epoch < E && line.epoch < E ->
       d_step {
         count(); available = ledger.available - line.stock - flight - unheard;
         flight = 0; unheard = 0; missing = 0; i = 0
       }
       if
       :: UNVERIFIED || line.gate || line.epoch != ledger.epoch || available != 0
       :: !UNVERIFIED && !line.gate && line.epoch == ledger.epoch && available == 0 && needless > 0 -> needless--
       fi;
       available = 0;
       epoch = (line.epoch > ledger.epoch -> line.epoch : ledger.epoch) + 1;
       ledger.epoch = epoch;
       check(Lock, k, epoch) }
     break
  od;
  if :: atomic { deaths > 0 -> deaths--; say(Death, k, 0); goto look } :: true fi;
  atomic { /* gate: closes the line, takes what workers hold, remembers on which server */
    if
    :: line.epoch < epoch ->
       line.epoch = epoch; line.gate = server; behind = false; t = 0;
       do :: t < T -> if :: line.at[t] >= LEASED -> line.at[t] = SUSPECT :: else fi; t++ :: else -> break od; t = 0;
       check(Gate, k, epoch)
    :: else -> say(GateRefused, k, epoch); goto look
    fi
  }
  if :: atomic { deaths > 0 -> deaths--; say(Death, k, 0); goto look } :: true fi;
  atomic { /* survey: what is left, and what had been told */
    do
    :: t < T ->
       listed[t] = (line.at[t] || line.rec[t] == QUEUED || line.rec[t] == CANCELLED || line.rec[t] == HELD -> line.rec[t] : NONE);
       kept[t] = (D && line.rec[t] == CONFIRMED);
       t++
    :: else -> break
    od; t = 0;
    say(Survey, k, epoch) }
#if defined(CANCEL) && !defined(PLAY)
  atomic { endHeld(); check(EndHeld, k, epoch) }
#endif
#if D > 0 && !defined(M_NO_RESTORING)
  atomic { /* put back first what the database lost and the line says was confirmed */
    do
    :: t < T ->
       if
       :: kept[t] && LOST(ledger.row[t]) ->
          if
          :: ledger.epoch == epoch ->
             assert(ledger.available > 0);
             ledger.row[t] = LIVE; ledger.available--
          :: else -> goto look
          fi
       :: else
       fi;
       t++
    :: else -> break
    od; t = 0;
    check(PutBack, k, epoch)
  }
#endif
  atomic { /* the ledger, in one snapshot */
#ifdef PLAY
    endHeld(); /* nothing that a test can place a step before lies between */
#endif
    available = ledger.available;
    do :: t < T -> row[t] = ledger.row[t]; t++ :: else -> break od; t = 0;
    check(ReadLedger, k, epoch) }
#if !defined(M_NO_RESTORING) && !defined(M_FORGET)
  if
  :: kept[0] && LOST(row[0]) || kept[T-1] && LOST(row[T-1]) -> goto look /* lost again meanwhile: begin again */
  :: else
  fi;
#endif
  atomic { /* restore */
    if
    :: GATED(epoch) ->
       do
       :: t < T ->
          if
#ifdef M_LEFT_A_TICKET
          :: row[t] == LIVE && !listed[t] -> line.rec[t] = CONFIRMED
          :: row[t] == LIVE && listed[t]
#else
          :: row[t] == LIVE ->
             line.rec[t] = CONFIRMED; told[t] = true;
             if :: listed[t] && !line.at[t] -> line.at[t] = SUSPECT :: else fi
#endif
          :: row[t] >= FAILED && listed[t] != QUEUED && !(row[t] == FAILED && WISHED(listed[t])) -> line.rec[t] = ENDED
          :: (row[t] == NONE || row[t] == FAILED) && listed[t] == HELD ->
             line.rec[t] = CANCELLED; /* the stock that is computed has its unit */
             if :: line.at[t] == OUT -> line.at[t] = SUSPECT :: else fi
          :: row[t] == NONE && !listed[t] ->
             gone[t] = (gone[t] || line.rec[t] == ENDED); /* told an end whose row the database lost: a recorded loss */
             line.rec[t] = NONE; line.at[t] = OUT
          :: else -> if :: line.at[t] == OUT -> line.at[t] = SUSPECT :: else fi
          fi;
          t++
       :: else -> break
       od; t = 0;
       check(Restore, k, epoch)
    :: else -> say(RestoreRefused, k, epoch); goto look
    fi
  }
  if :: atomic { deaths > 0 -> deaths--; say(Death, k, 0); goto look } :: true fi;
  atomic { /* reopen */
    if
    :: GATED(epoch) ->
#ifndef M_BLIND
       do
       :: t < T -> available = available - (listed[t] == QUEUED && row[t] != LIVE); t++
       :: else -> break
       od;
#endif
       t = 0;
       do :: t < T -> if :: line.at[t] == SUSPECT -> line.at[t] = WAITING :: else fi; t++ :: else -> break od; t = 0;
       line.stock = available; line.gate = 0; line.home = server;
       check(Reopen, k, epoch)
    :: else -> say(ReopenRefused, k, epoch); goto look
    fi
  }
  goto look
}

#if F > 0
/* Another server takes over (or the same one starts again) with what it had heard, less any part. */
proctype Failover() {
  byte t;
  do
#ifdef MIDWAY
  :: atomic { failovers > 0 && line.gate == server -> failovers--; /* once a rebuild */
#else
  :: atomic { failovers > 0 -> failovers--;
#endif
       old.home = line.home; old.epoch = line.epoch; old.gate = line.gate; old.stock = line.stock;
       do :: t < T -> old.rec[t] = line.rec[t]; old.at[t] = line.at[t]; t++ :: else -> break od; t = 0;
       say(Copy, 0, 0) }
     atomic {
#ifdef SWAP
       if
       :: server++
       :: behind = true
       fi;
#else
       server++;
#endif
       line.home = old.home; line.epoch = old.epoch; line.gate = old.gate; line.stock = old.stock;
#if !defined(M_SCRIPT_ON_REPLICA) && !defined(MIDWAY)
       if :: line.epoch = 0; line.home = 0; line.gate = 0 :: true fi;
#endif
       if :: line.stock = 0 :: true fi;
       do
       :: t < T ->
          line.rec[t] = old.rec[t]; line.at[t] = old.at[t];
          if :: line.rec[t] = NONE; line.at[t] = OUT :: true fi;
          if
          :: accepted[t] && ledger.row[t] == NONE && !(line.rec[t] && line.at[t]) && line.rec[t] != ENDED ->
             gone[t] = true
          :: else
          fi;
          old.rec[t] = 0; old.at[t] = 0; t++
       :: else -> break
       od; t = 0;
       old.home = 0; old.epoch = 0; old.gate = 0; old.stock = 0;
#ifdef M_SCRIPT_ON_REPLICA
       line.home = server; /* it knows the scripts, so it counts as compared */
#endif
       say(TakeOver, 0, 0) }
  od
}
#endif

#if D > 0
/* The database comes back as it was some commits ago. */
proctype Relapse() {
  byte t;
  do
  :: losses > 0 ->
     atomic { losses--;
       dump.epoch = ledger.epoch; dump.available = ledger.available;
       do :: t < T -> dump.row[t] = ledger.row[t]; t++ :: else -> break od; t = 0;
       say(Dump, 0, 0) }
     atomic {
       ledger.epoch = dump.epoch; ledger.available = dump.available; dump.epoch = 0; dump.available = 0;
       do :: t < T -> ledger.row[t] = dump.row[t]; dump.row[t] = 0; t++ :: else -> break od; t = 0;
       check(LoseCommits, 0, 0) }
  od
}
#endif

init {
  byte j;
  atomic {
    old.home = 0; old.epoch = 0; old.stock = 0; dump.epoch = 0; dump.available = 0;
    do :: j < T -> run Gateway(j); run Reclaimer(j);
#ifdef CANCEL
          run Owner(j);
#endif
          j++ :: else -> break od; j = 0;
#ifdef CANCEL
    run Releaser();
#endif
    do :: j < W -> run Worker(j); j++ :: else -> break od; j = 0;
    do :: j < K -> run Keeper(j); j++ :: else -> break od; j = 0;
#if F > 0
    run Failover();
#endif
#if D > 0
    run Relapse();
#endif
  }
}
