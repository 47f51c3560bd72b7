// Package cron tells when times written for cron come due. It is calendar arithmetic and nothing else: what it is told is
// what it knows of the time.
//
// Which times there are is for the calendar of a time zone to say, and which instant a time is for its clocks. Where clocks are
// set forward, times that do not exist come due at the first instant after the gap, all of them at once; where clocks are set
// back, a time that exists twice comes due the first time only. So a time that is written for each day comes due once a day.
//
// That is why the arithmetic is our own: robfig/cron, which most use, leaves out times that do not exist (its pull request 541, open);
// hashicorp/cronexpr does so too, and has times that exist twice come due twice (its pull request 1, merged).
package cron

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Schedule is what one cron line says. It is immutable and safe for concurrent use.
type Schedule struct{ minutes, hours, days, months, weekdays uint64 }

// field is one of the five.
type field struct {
	name        string
	least, most int
	names       []string // of the values from least on; nil if they have none
}

func fields() [5]field {
	return [5]field{
		{"minute", 0, 59, nil}, {"hour", 0, 23, nil}, {"day of month", 1, 31, nil},
		{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
		{"day of week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}}, // 0 and 7 are Sunday
	}
}

// word returns what a word in place of the five fields stands for.
func word(text string) (string, bool) {
	switch text {
	case "@hourly":
		return "0 * * * *", true
	case "@daily", "@midnight":
		return "0 0 * * *", true
	case "@weekly":
		return "0 0 * * 0", true
	case "@monthly":
		return "0 0 1 * *", true
	case "@yearly", "@annually":
		return "0 0 1 1 *", true
	}
	return "", false
}

// Parse reads a cron line: minute, hour, day of month, month and day of week, each a list of values, ranges and steps, or
// one of the words @hourly, @daily, @weekly, @monthly, @yearly. A line that never comes due, such as for 30 February, is an
// error. An error is one line.
func Parse(text string) (*Schedule, error) {
	line := strings.TrimSpace(strings.ToLower(text))
	if strings.HasPrefix(line, "@") {
		meant, ok := word(line)
		if !ok {
			return nil, fmt.Errorf("%.40q is none of @hourly, @daily, @weekly, @monthly, @yearly", text)
		}
		line = meant
	}
	parts := strings.Fields(line)
	if len(parts) != 5 {
		return nil, fmt.Errorf("%.80q has %d fields; five are needed: minute, hour, day of month, month and day of week, such as \"30 2 * * mon-fri\"", text, len(parts))
	}
	var s Schedule
	for i, to := range []*uint64{&s.minutes, &s.hours, &s.days, &s.months, &s.weekdays} {
		f := fields()[i]
		for _, part := range strings.Split(parts[i], ",") {
			set, err := f.parse(part)
			if err != nil {
				return nil, err
			}
			*to |= set
		}
	}
	s.weekdays = (s.weekdays | s.weekdays>>7) & (1<<7 - 1)
	if !s.comes() {
		return nil, fmt.Errorf("%.80q never comes due: no month that it names has such a day", text)
	}
	return &s, nil
}

// parse reads one element of a list: *, 5, mon, 1-5, */15, 10-50/20, 5/10.
func (f field) parse(part string) (set uint64, err error) {
	span, stepText, stepped := strings.Cut(part, "/")
	step := 1
	if stepped {
		if step, err = strconv.Atoi(stepText); err != nil || step < 1 || step > f.most {
			return 0, fmt.Errorf("%s %.40q: the step is not a number from 1 to %d", f.name, part, f.most)
		}
	}
	from, to := f.least, f.most
	if span != "*" {
		first, last, ranged := strings.Cut(span, "-")
		if from, err = f.value(first); err != nil {
			return 0, err
		}
		if to = from; stepped {
			to = f.most
		}
		if ranged {
			if to, err = f.value(last); err != nil {
				return 0, err
			}
		}
		if to < from {
			return 0, fmt.Errorf("%s %.40q ends before it begins", f.name, part)
		}
	}
	for v := from; v <= to; v += step {
		set |= 1 << v
	}
	return set, nil
}

func (f field) value(text string) (int, error) {
	for i, name := range f.names {
		if text == name {
			return f.least + i, nil
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < f.least || n > f.most {
		or := ""
		if f.names != nil {
			or = fmt.Sprintf(", or %s to %s", f.names[0], f.names[len(f.names)-1])
		}
		return 0, fmt.Errorf("%s %.40q is not from %d to %d%s", f.name, text, f.least, f.most, or)
	}
	return n, nil
}

const everyDay, everyWeekday = 1<<32 - 2, 1<<7 - 1

// comes reports whether there is a day for it in some year.
func (s *Schedule) comes() bool {
	if s.weekdays != everyWeekday || s.days == everyDay {
		return true
	}
	for month := time.January; month <= time.December; month++ {
		const leapYear = 2000
		longest := time.Date(leapYear, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
		if s.months>>month&1 != 0 && bits.TrailingZeros64(s.days) <= longest {
			return true
		}
	}
	return false
}

// onDay reports whether it comes due on a day. As cron has it, where both the day of month and the day of week are
// restricted, it is enough that one of them fits.
func (s *Schedule) onDay(day time.Time) bool {
	if s.months>>day.Month()&1 == 0 {
		return false
	}
	inMonth, inWeek := s.days>>day.Day()&1 != 0, s.weekdays>>day.Weekday()&1 != 0
	if s.days != everyDay && s.weekdays != everyWeekday {
		return inMonth || inWeek
	}
	return inMonth && inWeek
}

// farthest is more than there can be between two times that come due: 29 February, over a year 2100.
const farthest = 9 * 366

// Next returns the first instant after the given one at which the schedule comes due in the zone.
func (s *Schedule) Next(after time.Time, zone *time.Location) time.Time {
	// Days and times of day are counted as if in UTC, where each exists once. Later ones are never earlier instants, so nothing
	// before the present time of day need be looked at.
	local := after.In(zone)
	year, month, day := local.Date()
	now := local.Hour()*60 + local.Minute()
	for n := range farthest {
		date := time.Date(year, month, day+n, 0, 0, 0, 0, time.UTC)
		if !s.onDay(date) {
			continue
		}
		for hour := range 24 {
			if s.hours>>hour&1 == 0 || n == 0 && hour*60+59 < now {
				continue
			}
			for minute := range 60 {
				if s.minutes>>minute&1 == 0 {
					continue
				}
				t := instant(date.Unix()+int64(hour*60+minute)*60, zone)
				if t.After(after) {
					return t
				}
			}
		}
	}
	return time.Time{} // Parse has refused it
}

// instant is when clocks of the zone first show a time, given as seconds since 1970 as if it were in UTC; if they never do, the
// first instant at which they show a later one.
func instant(shown int64, zone *time.Location) time.Time {
	const mostOffset = 24 * 60 * 60 // no zone is as far as this from UTC
	for at := time.Unix(shown-mostOffset, 0).In(zone); ; {
		_, offset := at.Zone()
		begin, end := at.ZoneBounds()
		t := shown - int64(offset)
		if !begin.IsZero() && t < begin.Unix() {
			return begin // it lies in the gap before
		}
		if end.IsZero() || t < end.Unix() {
			return time.Unix(t, 0).In(zone)
		}
		at = end
	}
}
