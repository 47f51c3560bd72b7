package cron

import (
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones that are tested, wherever the tests run

	"pgregory.net/rapid"
)

func zone(t interface{ Fatal(...any) }, name string) *time.Location {
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func instantOf(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestNext: when lines come due, zone by zone, the times as a clock there shows them with its distance from UTC.
func TestNext(t *testing.T) {
	for _, c := range []struct {
		line, zone, after string
		want              string // the next ones, blanks between
	}{
		{"* * * * *", "UTC", "2026-11-23T10:00:00Z", "2026-11-23T10:01:00Z 2026-11-23T10:02:00Z"},
		{"* * * * *", "UTC", "2026-11-23T10:00:59.999999999Z", "2026-11-23T10:01:00Z"},
		{"30 2 * * *", "UTC", "2026-12-31T02:30:00Z", "2027-01-01T02:30:00Z"},
		{"*/20 9-10 * * *", "UTC", "2026-11-23T09:50:00Z", "2026-11-23T10:00:00Z 2026-11-23T10:20:00Z 2026-11-23T10:40:00Z 2026-11-24T09:00:00Z"},
		{"5/25 0 1 */6 *", "UTC", "2026-11-23T00:00:00Z", "2027-01-01T00:05:00Z 2027-01-01T00:30:00Z 2027-01-01T00:55:00Z 2027-07-01T00:05:00Z"},
		{"0 12 * * mon-fri", "UTC", "2026-11-20T12:00:00Z", "2026-11-23T12:00:00Z 2026-11-24T12:00:00Z"},
		{"0 12 * * 7", "UTC", "2026-11-20T12:00:00Z", "2026-11-22T12:00:00Z"},
		{"0 0 13 * FRI", "UTC", "2026-11-07T00:00:00Z", "2026-11-13T00:00:00Z 2026-11-20T00:00:00Z 2026-11-27T00:00:00Z 2026-12-04T00:00:00Z 2026-12-11T00:00:00Z 2026-12-13T00:00:00Z"},
		{"0 0 31 * *", "UTC", "2026-11-07T00:00:00Z", "2026-12-31T00:00:00Z 2027-01-31T00:00:00Z 2027-03-31T00:00:00Z"},
		{"0 0 29 feb *", "UTC", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"},
		{"@weekly", "UTC", "2026-11-23T00:00:00Z", "2026-11-29T00:00:00Z"},
		{"0 3 * * *", "Asia/Kathmandu", "2026-11-23T00:00:00Z", "2026-11-24T03:00:00+05:45"},

		// Berlin goes forward from 02:00 to 03:00 on 2027-03-28, and back from 03:00 to 02:00 on 2026-10-25.
		{"30 2 * * *", "Europe/Berlin", "2027-03-27T12:00:00Z", "2027-03-28T03:00:00+02:00 2027-03-29T02:30:00+02:00"},
		{"*/15 2 * * *", "Europe/Berlin", "2027-03-27T12:00:00Z", "2027-03-28T03:00:00+02:00 2027-03-29T02:00:00+02:00"},
		{"30 2,3 * * *", "Europe/Berlin", "2027-03-27T12:00:00Z", "2027-03-28T03:00:00+02:00 2027-03-28T03:30:00+02:00 2027-03-29T02:30:00+02:00"},
		{"0,30 * * * *", "Europe/Berlin", "2027-03-28T00:10:00Z", "2027-03-28T01:30:00+01:00 2027-03-28T03:00:00+02:00 2027-03-28T03:30:00+02:00"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T02:30:00+02:00 2026-10-26T02:30:00+01:00"},
		{"0 3 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T03:00:00+01:00"},
		{"*/30 * * * *", "Europe/Berlin", "2026-10-24T23:50:00Z", "2026-10-25T02:00:00+02:00 2026-10-25T02:30:00+02:00 2026-10-25T03:00:00+01:00"},
		// In the second pass of the hour nothing of it comes due again.
		{"45 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", "2026-10-26T02:45:00+01:00"},
		// Lord Howe goes by half an hour: forward from 02:00 to 02:30, back from 02:00 to 01:30.
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", "2026-10-04T02:30:00+11:00 2026-10-05T02:15:00+11:00"},
		{"45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", "2026-04-05T01:45:00+11:00 2026-04-06T01:45:00+10:30"},
		// Havana loses midnight, and São Paulo once had 23:00 twice.
		{"0 0 * * *", "America/Havana", "2027-03-13T12:00:00Z", "2027-03-14T01:00:00-04:00 2027-03-15T00:00:00-04:00"},
		{"30 23 * * *", "America/Sao_Paulo", "2018-02-17T12:00:00Z", "2018-02-17T23:30:00-02:00 2018-02-18T23:30:00-03:00"},
		// Samoa had no 30 December 2011.
		{"0 6 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", "2011-12-31T00:00:00+14:00 2012-12-30T06:00:00+14:00"},
	} {
		s, err := Parse(c.line)
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		at := instantOf(t, c.after)
		for _, want := range strings.Fields(c.want) {
			if at = s.Next(at, zone(t, c.zone)); !at.Equal(instantOf(t, want)) {
				t.Errorf("%s in %s after %s comes due at %s, want %s", c.line, c.zone, c.after, at.Format(time.RFC3339), want)
			}
		}
	}
}

func TestBadLines(t *testing.T) {
	for line, want := range map[string]string{
		"":                  `"" has 0 fields; five are needed`,
		"* * * *":           `"* * * *" has 4 fields`,
		"0 0 0 * * *":       `has 6 fields`,
		"60 * * * *":        `minute "60" is not from 0 to 59`,
		"* 24 * * *":        `hour "24" is not from 0 to 23`,
		"* * 0 * *":         `day of month "0" is not from 1 to 31`,
		"* * * 13 *":        `month "13" is not from 1 to 12, or jan to dec`,
		"* * * * 8":         `day of week "8" is not from 0 to 7, or sun to sat`,
		"* * * * monday":    `day of week "monday" is not from 0 to 7`,
		"*/0 * * * *":       `minute "*/0": the step is not a number from 1 to 59`,
		"*/x * * * *":       `minute "*/x": the step is not a number`,
		"5-1 * * * *":       `minute "5-1" ends before it begins`,
		"1, * * * *":        `minute "" is not from 0 to 59`,
		"-1 * * * *":        `minute "" is not from 0 to 59`,
		"0 0 L * *":         `day of month "l" is not from 1 to 31`,
		"@reboot":           `"@reboot" is none of @hourly`,
		"0 0 30 2 *":        `"0 0 30 2 *" never comes due: no month that it names has such a day`,
		"0 0 31 4,6,9,11 *": `never comes due`,
	} {
		if _, err := Parse(line); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want one line that says %s", line, err, want)
		}
	}
}

// TestNextIsExact holds Next against looking at every minute of two days: a time comes due when clocks first show it, or at the
// first minute after the gap in which it lies.
func TestNextIsExact(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Asia/Kathmandu"}
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(what string, of ...string) string { return rapid.SampledFrom(of).Draw(rt, what) }
		line := fmt.Sprintf("%s %s * * %s", pick("minute", "*", "0", "30", "*/7", "15,45", "59"), pick("hour", "*", "0", "1", "2", "3", "1-3", "*/5"), pick("weekday", "*", "sun", "sat,sun"))
		s, err := Parse(line)
		if err != nil {
			rt.Fatal(err)
		}
		z := zone(rt, pick("zone", zones...))
		begin := time.Date(2026, 1, rapid.IntRange(1, 364).Draw(rt, "day"), rapid.IntRange(0, 23).Draw(rt, "hour"), 0, 0, 0, time.UTC)
		due := map[time.Time]bool{}
		seen := map[string]bool{}
		const layout = "2006-01-02 15:04"
		// What clocks show from a day before on; whatever lies between two minutes that follow each other lies in a gap.
		last := begin.Add(-24 * time.Hour)
		for at := last; !at.After(begin.Add(48 * time.Hour)); at = at.Add(time.Minute) {
			shownBefore, _ := time.Parse(layout, last.In(z).Format(layout))
			shown, _ := time.Parse(layout, at.In(z).Format(layout))
			for wall := shownBefore.Add(time.Minute); !wall.After(shown); wall = wall.Add(time.Minute) {
				key := wall.Format(layout)
				if !seen[key] && s.onDay(wall) && s.hours>>wall.Hour()&1 != 0 && s.minutes>>wall.Minute()&1 != 0 {
					due[at] = true
				}
				seen[key] = true
			}
			last = at
		}
		for at := begin; ; {
			next := s.Next(at, z)
			for m := at.Add(time.Minute); m.Before(next) && !m.After(begin.Add(48*time.Hour)); m = m.Add(time.Minute) {
				if due[m] {
					rt.Fatalf("%s in %s: it comes due at %s, after %s; Next says %s", line, z, m.In(z), at.In(z), next.In(z))
				}
			}
			if next.After(begin.Add(48 * time.Hour)) {
				return
			}
			if !due[next.UTC()] {
				rt.Fatalf("%s in %s: Next after %s is %s, when it does not come due", line, z, at.In(z), next.In(z))
			}
			at = next.UTC()
		}
	})
}
