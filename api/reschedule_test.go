package api

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestRescheduleDelays lets an instance fail at once again and again.
func TestRescheduleDelays(t *testing.T) {
	for want, r := range map[string]Reschedule{
		"30s 1m0s 2m0s 4m0s 8m0s 10m0s 10m0s 10m0s": DefaultReschedule(JobService),
		"5s": DefaultReschedule(JobBatch),
		"1m0s 1m0s 1m0s 1m0s 1m0s 1m0s 1m0s 1m0s": {Attempts: -1, Delay: time.Minute, DelayFunction: DelayConstant, MaxDelay: time.Hour},
		"10s 10s 20s 30s 50s 1m20s 2m10s 3m0s":    {Attempts: -1, Delay: 10 * time.Second, DelayFunction: DelayFibonacci, MaxDelay: 3 * time.Minute},
		"0s 0s 0s":                                {Attempts: 3, Interval: time.Hour, DelayFunction: DelayExponential},
		"":                                        {Attempts: 0, Delay: time.Second, DelayFunction: DelayConstant, MaxDelay: time.Second},
		"2562047h47m16.854775807s 2562047h47m16.854775807s": {Attempts: 2, Interval: time.Hour, Delay: 1<<63 - 1, DelayFunction: DelayFibonacci},
	} {
		var got []string
		p := Past{PlacedAt: 1000, EndedAt: 2000}
		for range 8 {
			next, due, ok := r.Next(p)
			if !ok {
				break
			}
			got = append(got, time.Duration(due-p.EndedAt).String())
			p.Trial = next
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%+v waits %s, want %s", r, text, want)
		}
	}
}

func TestRescheduleAttemptsCountInTheirInterval(t *testing.T) {
	r := Reschedule{Attempts: 2, Interval: time.Hour, Delay: time.Second, DelayFunction: DelayExponential, MaxDelay: time.Minute}
	at, trial := int64(0), Trial{}
	fails := func(after, lasted time.Duration, want bool, used, streak uint32) {
		t.Helper()
		at += int64(after)
		next, _, ok := r.Next(Past{Trial: trial, PlacedAt: at - int64(lasted), EndedAt: at})
		if ok != want || ok && (next.Used != used || next.Streak != streak) {
			t.Errorf("after %s: %v, %+v; want %v, used %d, streak %d", time.Duration(at), ok, next, want, used, streak)
		}
		if ok {
			trial = next
		}
	}
	fails(time.Minute, time.Second, true, 1, 1)
	fails(time.Minute, time.Second, true, 2, 2)
	fails(57*time.Minute, 57*time.Minute, false, 0, 0) // it lasted, and there is no third within the hour
	fails(2*time.Minute, time.Second, true, 1, 3)      // a new hour begins
	fails(time.Minute, time.Minute, true, 2, 1)        // it lasted for as long as the longest delay
	fails(time.Second, time.Second, false, 0, 0)
}

// TestRescheduleIsBounded: whatever the policy and the past, the delay is from Delay to MaxDelay, and never more attempts are
// granted within an interval than there are.
func TestRescheduleIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Reschedule{
			Attempts: rapid.IntRange(-1, 4).Draw(t, "attempts"), Interval: time.Duration(rapid.IntRange(1, 600).Draw(t, "interval")) * time.Second,
			Delay: time.Duration(rapid.IntRange(0, 60).Draw(t, "delay")) * time.Second, DelayFunction: rapid.SampledFrom(DelayFunctions()).Draw(t, "function"),
		}
		r.MaxDelay = r.Delay + time.Duration(rapid.IntRange(0, 300).Draw(t, "more"))*time.Second
		now, trial, since, granted := int64(1), Trial{}, int64(0), 0
		for range 100 {
			placed := now
			now += int64(rapid.IntRange(0, 400).Draw(t, "lasts")) * int64(time.Second)
			next, due, ok := r.Next(Past{Trial: trial, PlacedAt: placed, EndedAt: now})
			if !ok {
				if r.Attempts < 0 || granted < r.Attempts && now-since < int64(r.Interval) {
					t.Fatalf("refused after %d of %d", granted, r.Attempts)
				}
				return
			}
			if d := time.Duration(due - now); d < r.Delay || d > r.MaxDelay {
				t.Fatalf("a delay of %s", d)
			}
			if next.Since != since {
				since, granted = next.Since, 0
			}
			if granted++; r.Attempts >= 0 && granted > r.Attempts {
				t.Fatalf("%d attempts since %d", granted, since)
			}
			now, trial = due, next
		}
	})
}

func TestEachFaultOfAReschedulePolicyHasItsLine(t *testing.T) {
	for says, change := range map[string]func(*Task){
		"attempts -2 is not from -1":                        func(k *Task) { k.Reschedule.Attempts = -2 },
		"interval has no meaning without attempts":          func(k *Task) { k.Reschedule.Interval = time.Hour },
		"interval 0s is not from 1s to a year":              func(k *Task) { k.Reschedule.Attempts = 1 },
		"delay -1s is not from 0":                           func(k *Task) { k.Reschedule.Delay = -time.Second },
		"delay 1ms is too short without a limit":            func(k *Task) { k.Reschedule.Delay = time.Millisecond },
		"max_delay 1s is not from delay (31s)":              func(k *Task) { k.Reschedule.Delay, k.Reschedule.MaxDelay = 31*time.Second, time.Second },
		`delay_function "linear" is none of constant`:       func(k *Task) { k.Reschedule.DelayFunction = "linear" },
		"reschedule would never be asked: the restart poli": func(k *Task) { k.Reschedule.Delay, k.Restart = 31*time.Second, DefaultRestart() },
	} {
		j := sound()
		k := j.Tasks[0]
		k.Restart = Restart{Attempts: 1, Interval: time.Minute, Mode: RestartFail}
		k.Reschedule = DefaultReschedule(JobService)
		k.Reschedule.MaxDelay++
		change(k)
		if err := j.Validate(); err == nil || !strings.Contains(err.Error(), says) || strings.ContainsAny(err.Error(), "\r\n") {
			t.Errorf("got %v, want one line that says %q", err, says)
		}
	}
	j := sound()
	j.Tasks[0].Reschedule = DefaultReschedule(JobService)
	if j.Canonicalize(); j.Tasks[0].Reschedule != (Reschedule{}) {
		t.Error("a policy that is the default is another text than none")
	}
	j.Tasks[0].Reschedule = Reschedule{Attempts: 0, Delay: time.Second, DelayFunction: DelayConstant, MaxDelay: time.Second}
	if err := j.Validate(); err != nil {
		t.Errorf("a task that is never rescheduled may be restarted for ever: %v", err)
	}
}

func TestWhatAWaitingInstanceIsCalled(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 31, 4, 0, time.UTC)
	r := &Retry{Instance: "web[2]", At: at, Attempt: 2, Attempts: 3, More: 1}
	for want, now := range map[string]time.Time{
		"web[2] failed: rescheduled in 28s (attempt 2 of 3), and 1 more later":          at.Add(-28 * time.Second),
		"web[2] failed: rescheduled now (attempt 2 of 3), and 1 more later":             at.Add(time.Second),
		"web[2] failed: rescheduled at 10:31:04 UTC (attempt 2 of 3), and 1 more later": {},
	} {
		if got := r.Text(now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	e := Explanation{Task: "web", Wanted: 3, Placed: 1, Retry: &Retry{Instance: "web[2]", At: at, Attempt: 1}, Note: "web[0] failed"}
	if got := strings.Join(e.LinesAt(at), "\n"); got != "web: 2 of 3 not placed: web[2] failed: rescheduled now (attempt 1); web[0] failed" {
		t.Errorf("%q", got)
	}
}
