"""From scored updates to what is written and published: offsets, the alert policy, records, states.

The last step of `Pipeline.process`. Pure but for the sessions' caches; leaves the policy's rules to `alerting.py`, the
records' form to `reports.py`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from models.predictor import Card
from streaming import alerting, reports
from streaming.history import PatientState
from streaming.reports import Update
from streaming.session import Outcome, Session, Taken
from streaming.turns import Turns


class Decider:
    """The alert policy over scores in order, for one site and model. `silence_ms`: as in `Rules`."""

    def __init__(self, policy: alerting.Policy, card: Card, site: str, silence_ms: int) -> None:
        self._policy = policy
        self._card = card
        self._site = site
        self._silence_ms = silence_ms

    async def decide(
        self,
        taken: Sequence[Taken],
        updates: Sequence[Update],
        sessions: Mapping[int, Session],
        started: float,
        outcome: Outcome,
    ) -> None:
        """Fills `outcome` from a batch begun at `started` (`time.perf_counter`)."""
        decision_ms = time.time() * 1e3
        queue_ms = decision_ms - (time.perf_counter() - started) * 1e3
        turns = Turns()
        for one in taken:
            self._account(one, outcome)
            await turns.give()
        before: dict[tuple[int, str], PatientState] = {}
        for update in updates:
            session = sessions[update.partition]
            held = session.cache[update.state.patient]
            before.setdefault((session.partition, held.patient), held)
            self._update(session, held, update, queue_ms, decision_ms, outcome)
            await turns.give()
        for (partition, patient), old in before.items():
            session = sessions[partition]
            outcome.keep(session, old, session.cache[patient])
            await turns.give()
        for partition in {partition for partition, _ in before}:
            sessions[partition].forget_unused(len(sessions))

    def _account(self, one: Taken, outcome: Outcome) -> None:
        """The record's offset, and what it sends elsewhere."""
        session, kind, offset = one.session, one.batch.kind, one.record.offset
        outcome.write(session).offsets[kind] = session.taken[kind] = offset
        if one.error is not None:
            outcome.count(session, f"refused:{kind}")
            if one.letter is not None:
                outcome.out(session, one.letter)
        elif one.rerouted_to is not None:
            outcome.count(session, f"rerouted:{kind}")
            outcome.out(session, reports.rerouted(one.record, kind, one.rerouted_to))
        else:
            outcome.count(session, f"applied:{kind}")
            for record in one.sent_on:
                outcome.count(session, f"forwarded:{kind}")
                outcome.out(session, record)

    def _update(
        self,
        session: Session,
        held: PatientState,
        update: Update,
        queue_ms: float,
        decision_ms: float,
        outcome: Outcome,
    ) -> None:
        """One score, or the word that another patient is scored instead, through the policy."""
        patient, score = update.state.patient, update.score
        if score is None:
            policy, decisions = alerting.merged(held.policy, self._site, patient)
        else:
            told = reports.for_policy(update, score, self._card, self._site)
            policy, decisions = alerting.decide(self._policy, held.policy, told)
        policy, heard = self._heard(session, held, update, policy)
        session.keep(replace(update.state, policy=policy))
        if heard is not None:
            outcome.out(session, reports.technical(update.state, heard, self._card, self._site, int(decision_ms)))
            outcome.count(session, f"alerts:{heard.action}")
        stages = {
            "broker": update.arrival_ms - update.trigger.broker_ms,
            "queue": queue_ms - update.arrival_ms,
            **outcome.stage_ms,
        }
        report = reports.Report(update, score, policy, self._card, self._site, decision_ms, stages)
        outcome.out(session, report.risk())
        outcome.count(session, "scored" if score is not None else "merged")
        for decision in decisions:
            outcome.out(session, report.alert(decision))
            outcome.count(session, f"alerts:{decision.action}")

    def _heard(
        self, session: Session, held: PatientState, update: Update, policy: alerting.PolicyState
    ) -> tuple[alerting.PolicyState, alerting.Decision | None]:
        """What the update means for the alarm that data fell silent. Who is silent all the same is to be judged."""
        state = update.state
        here = (update.trigger.kind, session.partition, update.trigger.offset)
        if update.score is None:
            return alerting.heard(policy, self._site, state.patient, here, alerting.MERGED)
        overdue = 0 < self._silence_ms <= update.as_of_ms - state.newest_recorded_ms
        if overdue:
            session.overdue.add(state.patient)
        if state.newest_recorded_ms <= held.newest_recorded_ms:
            return policy, None
        return alerting.heard(policy, self._site, state.patient, here, None if overdue else "data came again")

    def silence(self, session: Session, state: PatientState, monitored_ms: int, now_ms: int, outcome: Outcome) -> None:
        """Raises the technical alarm once, when nothing was recorded of a patient for `silence_ms`; ends it when nothing was
        for `monitored_ms` more."""
        if state.merged_into is not None:
            return
        topic, offset = max(state.offsets.items(), key=lambda item: (item[0] == "vitals", item))
        last = (topic, session.partition, offset)
        silent_ms, limit_ms = now_ms - state.newest_recorded_ms, self._silence_ms
        if silent_ms < limit_ms + monitored_ms:
            policy, decision = alerting.silence(state.policy, self._site, state.patient, last, silent_ms, limit_ms)
        else:
            policy, decision = alerting.left(state.policy, self._site, state.patient, now_ms)
        if decision is None:
            return
        changed = replace(state, policy=policy)
        outcome.keep(session, state, changed)
        outcome.out(session, reports.technical(changed, decision, self._card, self._site, now_ms))
        outcome.counts[f"alerts:{decision.action}"] = outcome.counts.get(f"alerts:{decision.action}", 0) + 1
