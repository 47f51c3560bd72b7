package api

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Moment returns the event as a row that stands for it alone.
func (e *Event) Moment() Moment {
	m := Moment{Event: *e, Since: e.At, Count: max(1, e.Times)}
	if e.Task != "" {
		m.Slots = []Span{{e.Slot, e.Slot}}
	}
	if e.Node != "" {
		m.Nodes = []string{e.Node}
	}
	return m
}

// View returns what people read of the moment. name gives a node's name for its ID.
func (m *Moment) View(text IDText, name func(id string) string) *EventView {
	v := &EventView{
		Index: m.Index, At: time.Unix(0, m.At).UTC(), Topic: m.Type.Topic(), Type: m.Type.String(), Job: m.Job, Task: m.Task,
		Version: m.Version, NodeIDs: m.Nodes, Cause: m.Cause, By: m.By, Detail: m.Detail,
	}
	if m.Since != m.At {
		v.Since = time.Unix(0, m.Since).UTC()
	}
	if m.Count > 1 {
		v.Count = int(m.Count)
	}
	if m.Task != "" && m.Vague&GapSlots == 0 {
		v.Instances = m.instances()
	}
	for _, id := range m.Nodes {
		v.Nodes = append(v.Nodes, name(id))
	}
	if m.Allocation != 0 {
		v.Allocation = text.Format(m.Allocation)
	}
	if m.Evaluation != 0 {
		v.Evaluation = text.Format(m.Evaluation)
	}
	told := *m
	if m.Cause == CauseNodeDown && m.Detail != "" { // then it is the ID of that node
		told.Detail = name(m.Detail)
		v.Detail = told.Detail
	}
	v.Text = told.sentence(v.Nodes)
	return v
}

// instances names the slots: web[1], web[0..2,5].
func (m *Moment) instances() string {
	var b strings.Builder
	for i, s := range m.Slots {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(s.From), 10))
		if s.To > s.From {
			fmt.Fprintf(&b, "..%d", s.To)
		}
	}
	if m.Job == m.Task {
		return m.Task + "[" + b.String() + "]"
	}
	return m.Job + "/" + m.Task + "[" + b.String() + "]"
}

// distinct is how many instances there are.
func (m *Moment) distinct() (n uint32) {
	for _, s := range m.Slots {
		n += s.To - s.From + 1
	}
	return n
}

// sentence says what has happened, and after a colon why.
func (m *Moment) sentence(nodes []string) string {
	what, why := m.what(nodes)
	if why != "" {
		return what + ": " + why
	}
	return what
}

// what has words for each type of event.
func (m *Moment) what(nodes []string) (what, why string) {
	switch m.Type {
	case EventSubmitted:
		return fmt.Sprintf("version %d submitted", m.Version) + m.by(), m.Detail
	case EventScaled:
		return "scaled " + m.Detail + m.by(), ""
	case EventStopped:
		return "job stopped" + m.by(), ""
	case EventTagged:
		return fmt.Sprintf("version %d %s", m.Version, m.Detail) + m.by(), ""
	case EventRollout:
		return fmt.Sprintf("roll-out of version %d ", m.Version) + m.Detail, ""
	case EventPurged:
		return "job purged" + m.by(), ""
	case EventLook:
		return "to be looked at", m.because()
	case EventLooked:
		return "looked at", m.Detail
	case EventUnplaced:
		return m.Detail, ""
	case EventLaunched, EventSkipped:
		return m.ofLaunch()
	case EventRegistered, EventReady, EventDown, EventEligible, EventIneligible, EventForgotten, EventDraining, EventDrained:
		return "node " + strings.Join(nodes, ", ") + " is " + m.Type.String() + m.by(), m.Detail
	case EventChanged:
		return "node " + strings.Join(nodes, ", ") + " has changed", m.Detail
	}
	return m.ofInstances(nodes)
}

// ofLaunch has words for what a job launches. Before the first colon of the detail stands which job that is, or the time that was
// passed over.
func (m *Moment) ofLaunch() (what, why string) {
	which, why, _ := strings.Cut(m.Detail, ": ")
	if m.Type == EventSkipped {
		return "not launched for " + which, why
	}
	return "launched " + which + m.by(), why
}

// ofInstances has words for what happens to instances.
func (m *Moment) ofInstances(nodes []string) (what, why string) {
	what, why = m.who()+" "+m.Type.String()+m.often(), m.Detail
	switch m.Type {
	case EventAsked:
		return m.who() + m.verb(" is", " are") + " to be replaced", "asked for" + m.by()
	case EventPlaced:
		return what + m.on(nodes), m.because()
	case EventUpdated:
		return fmt.Sprintf("%s%s version %d without a restart%s", m.who(), m.verb(" takes", " take"), m.Version, m.often()), ""
	case EventStopping:
		return m.who() + m.verb(" is", " are") + " to stop" + m.often(), why
	case EventLost:
		return m.who() + m.verb(" is", " are") + " lost" + m.often(), why
	case EventHealthy, EventUnhealthy:
		return m.who() + m.verb(" is ", " are ") + m.Type.String() + m.often(), why
	case EventStarted:
		return what + m.on(nodes), why
	case EventGone:
		return m.who() + m.verb(" has", " have") + " stopped" + m.often(), why
	}
	return what, why
}

// who are the instances, by name where that is short.
func (m *Moment) who() string {
	n := m.distinct()
	switch {
	case m.Vague&GapSlots == 0:
		return m.instances()
	case m.Type == EventRestarted:
		return "instances of " + m.Task
	}
	return fmt.Sprintf("%d instances of %s", max(n, m.Count), m.Task)
}

// verb agrees with who.
func (m *Moment) verb(one, several string) string {
	if m.Vague&GapSlots == 0 && m.distinct() == 1 {
		return one
	}
	return several
}

// often says how often, where that is more than once each, and over what time.
func (m *Moment) often() string {
	if m.Vague&GapSlots != 0 && m.Type != EventRestarted || m.Vague&GapSlots == 0 && m.Count <= m.distinct() {
		return ""
	}
	text := fmt.Sprintf(" %d times", m.Count)
	if d := time.Duration(m.At - m.Since).Round(time.Second); d > 0 {
		text += " in " + Brief(d)
	}
	return text
}

// Brief writes a duration without the units that are nought at its end: 5m, not 5m0s.
func Brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// on says where: up to three nodes by name.
func (m *Moment) on(nodes []string) string {
	switch {
	case len(nodes) == 0:
		return ""
	case m.Vague&GapNodes != 0:
		return fmt.Sprintf(" on more than %d nodes", len(nodes))
	case len(nodes) > 3:
		return fmt.Sprintf(" on %d nodes", len(nodes))
	}
	return " on " + strings.Join(nodes, ", ")
}

func (m *Moment) by() string {
	if m.By == "" {
		return ""
	}
	return " by " + m.By
}

// because says what led to the evaluation.
func (m *Moment) because() string {
	switch m.Cause {
	case CauseRegister, CauseRevert, CauseLaunch:
		return fmt.Sprintf("version %d", m.Version)
	case CauseScale:
		return "scaled" + m.by()
	case CauseRestart:
		return "restarted" + m.by()
	case CauseStop:
		return "job stopped" + m.by()
	case CauseAllocStop:
		return "replacement asked for" + m.by()
	case CauseNodeDown:
		return "node " + m.Detail + " is down"
	case CauseNodeUp:
		if m.By != "" {
			return "a node was made eligible" + m.by()
		}
	case CauseRebalance:
		return "moved to balance" + m.by()
	case CauseAllocEnded:
		if m.Detail != "" {
			return m.Detail
		}
		return "the instance before it ended"
	case CauseUpdate:
		return fmt.Sprintf("update to version %d", m.Version)
	case CauseDrain:
		if m.Detail != "" {
			return m.Detail
		}
	case CauseDeployment:
		switch {
		case m.Detail != "" && m.By != "":
			return m.Detail + ", asked for" + m.by()
		case m.Detail != "":
			return m.Detail
		}
	}
	return CauseWords(m.Cause) + m.by()
}

// DescribeEnd names how an instance ended, for where nobody has said it in words.
func DescribeEnd(f Failure, exit int32, signal uint8) string {
	switch {
	case f == FailureOOM:
		return "out of memory"
	case f == FailureStart:
		return "it could not be started"
	case f == FailurePortTaken:
		return "a port was taken"
	case f == FailureCheck:
		return "its checks failed"
	case f == FailureCut:
		return "its client was cut off from the servers"
	case signal != 0:
		return fmt.Sprintf("signal %d", signal)
	}
	return fmt.Sprintf("exit code %d", exit)
}

// On says what became of an instance on its node, as the cause of what takes its place.
func (f Failure) On(node string) string {
	switch f {
	case FailurePortTaken:
		return "its port was taken on " + node
	case FailureCut:
		return "cut off from the servers on " + node
	}
	return "it failed on " + node
}
