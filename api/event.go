package api

import (
	"context"
	"time"
)

// Topic is what an event is about.
type Topic string

const (
	TopicJob        Topic = "job"
	TopicEvaluation Topic = "evaluation"
	TopicAllocation Topic = "allocation"
	TopicNode       Topic = "node"
	TopicDeployment Topic = "deployment"
)

// Topics lists what may be asked for.
func Topics() []Topic {
	return []Topic{TopicJob, TopicDeployment, TopicEvaluation, TopicAllocation, TopicNode}
}

// EventType is what has happened. Snapshots have them as text, so names are for ever; eventTypes lists what each means.
type EventType uint8

const (
	EventNone EventType = iota
	EventSubmitted
	EventScaled
	EventStopped
	EventTagged
	EventPurged
	EventLook
	EventUnplaced
	EventLooked
	EventAsked
	EventPlaced
	EventUpdated
	EventStopping
	EventStarted
	EventHealthy
	EventUnhealthy
	EventRestarted
	EventCompleted
	EventGone
	EventFailed
	EventLost
	EventRegistered
	EventReady
	EventDown
	EventEligible
	EventIneligible
	EventForgotten
	EventRollout
	EventDraining
	EventDrained
	EventChanged
	EventLaunched
	EventSkipped
	eventTypeCount
)

// eventType is what goes without saying of an event of a type.
type eventType struct {
	name  string
	topic Topic
	kept  bool // in the timeline of its job
}

// eventTypes is by type. Who adds one gives it words in what, too.
var eventTypes = [eventTypeCount]eventType{
	EventSubmitted:  {"submitted", TopicJob, true}, // a version is in force: a file, or an older version again
	EventScaled:     {"scaled", TopicJob, true},
	EventStopped:    {"stopped", TopicJob, true},
	EventTagged:     {"tagged", TopicJob, true},
	EventPurged:     {"purged", TopicJob, false},
	EventLook:       {"look", TopicEvaluation, false},    // an evaluation was made: the scheduler is to look at the job
	EventUnplaced:   {"unplaced", TopicEvaluation, true}, // it did, and not everything fits or may run
	EventLooked:     {"looked", TopicEvaluation, false},  // the evaluation is closed
	EventAsked:      {"asked", TopicAllocation, true},    // a person asked for one instance to be replaced
	EventPlaced:     {"placed", TopicAllocation, true},
	EventUpdated:    {"updated", TopicAllocation, true},  // it takes another version as it is
	EventStopping:   {"stopping", TopicAllocation, true}, // it is to stop
	EventStarted:    {"started", TopicAllocation, true},
	EventHealthy:    {"healthy", TopicAllocation, true},
	EventUnhealthy:  {"unhealthy", TopicAllocation, true},
	EventRestarted:  {"restarted", TopicAllocation, true}, // in place, by its client
	EventCompleted:  {"completed", TopicAllocation, true}, // by itself, as it should
	EventGone:       {"gone", TopicAllocation, true},      // ended after it was to stop
	EventFailed:     {"failed", TopicAllocation, true},    // ended for good
	EventLost:       {"lost", TopicAllocation, true},      // with its node
	EventRegistered: {"registered", TopicNode, false},
	EventReady:      {"ready", TopicNode, false},
	EventDown:       {"down", TopicNode, false},
	EventEligible:   {"eligible", TopicNode, false},
	EventIneligible: {"ineligible", TopicNode, false},
	EventForgotten:  {"forgotten", TopicNode, false},
	EventRollout:    {"rollout", TopicDeployment, true}, // a version's deployment began, came to an end, or was moved by a person
	EventDraining:   {"draining", TopicNode, false},     // a drain begins, changes, or comes to its deadline
	EventDrained:    {"drained", TopicNode, false},      // nothing is left on it
	EventChanged:    {"changed", TopicNode, false},      // it tells something else of itself, in the same life
	EventLaunched:   {"launched", TopicJob, false},      // another job, which tells the rest: the state need not keep both
	EventSkipped:    {"skipped", TopicJob, false},       // a time came for which nothing is launched
}

func (t EventType) String() string {
	if t > EventNone && t < eventTypeCount {
		return eventTypes[t].name
	}
	return enumString(t, nil)
}

// MarshalText writes the names people see.
func (t EventType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (t *EventType) UnmarshalText(b []byte) error {
	for i := EventNone + 1; i < eventTypeCount; i++ {
		if eventTypes[i].name == string(b) {
			*t = i
			return nil
		}
	}
	return Errorf(CodeInvalid, "unknown type of event %.40q", b)
}

// Topic is what an event of the type is about, "" for no type.
func (t EventType) Topic() Topic {
	if t < eventTypeCount {
		return eventTypes[t].topic
	}
	return ""
}

// Kept reports whether the timeline of a job tells of events of the type.
func (t EventType) Kept() bool { return t < eventTypeCount && eventTypes[t].kept }

// Event is one thing that has happened, as the state notes it: a fact of one entry of the log, so every server notes the
// same ones in the same order. What does not belong to its type is zero.
type Event struct {
	Type       EventType
	Index      uint64
	At         int64  // Unix nanoseconds, the state's time
	Job        string `json:",omitempty"`
	Task       string `json:",omitempty"`
	Slot       uint32 `json:",omitempty"` // of Task
	Times      uint32 `json:",omitempty"` // EventRestarted: how often; 0 is once
	Version    uint64 `json:",omitempty"` // of the job
	Node       string `json:",omitempty"` // node ID
	Allocation ID     `json:",omitempty"`
	Evaluation ID     `json:",omitempty"` // that led to it
	Cause      string `json:",omitempty"` // of that evaluation: CauseRegister and so on
	By         string `json:",omitempty"` // the person who asked for it
	Detail     string `json:",omitempty"` // a reason in words
}

// Moment is one row of a job's timeline: an event, or many alike that came close together.
type Moment struct {
	Event           // the latest of them
	Since int64     // At of the first
	Count uint32    // how many
	Slots []Span    `json:",omitempty"` // of Task, in order
	Nodes []string  `json:",omitempty"` // node IDs, in order
	Vague MomentGap `json:",omitempty"`
}

// MomentGap says what of a moment is not listed in full, since there was too much of it.
type MomentGap uint8

const (
	GapSlots MomentGap = 1 << iota
	GapNodes
)

// Span is a run of slots.
type Span struct{ From, To uint32 }

// EventView is an event as people read it, or many alike. Text says it in a sentence; the rest is for machines.
type EventView struct {
	Index      uint64
	At         time.Time `json:",omitzero"` // the leader's clock; of the latest
	Since      time.Time `json:",omitzero"` // of the first, where it stands for several
	Topic      Topic     `json:",omitempty"`
	Type       string    `json:",omitempty"`
	Text       string    `json:",omitempty"`
	Job        string    `json:",omitempty"`
	Task       string    `json:",omitempty"`
	Instances  string    `json:",omitempty"` // web[1], web[0..11], or "" where they are too many to name
	Count      int       `json:",omitempty"` // how often it happened, where that is more than once
	Version    uint64    `json:",omitempty"`
	Nodes      []string  `json:",omitempty"` // names
	NodeIDs    []string  `json:",omitempty"`
	Allocation string    `json:",omitempty"` // the latest
	Evaluation string    `json:",omitempty"` // that led to it
	Cause      string    `json:",omitempty"` // of that evaluation
	By         string    `json:",omitempty"` // the person who asked for it
	Detail     string    `json:",omitempty"`
}

// EventRequest says which events are to come.
type EventRequest struct {
	Topics []Topic // nil for all
	Job    string  // "" for all
	Node   string  // a node's name or the beginning of its ID, "" for all
	// After, if set, asks for all events after this index. CodeTooOld if some of them are not kept any more.
	After  *uint64
	Tail   int  // without After: begin with so many of the latest that are kept; -1: with all of them
	Follow bool // go on as things happen
}

// EventBatch is what has happened up to an index: whole entries of the log, in their order. An empty one says that nothing
// that was asked for has.
type EventBatch struct {
	Index  uint64
	Events []*EventView
}

// Events is what goes on in the cluster.
type Events interface {
	// Events calls take with batches of what was asked for, the first one at once, and returns nil when there is no more, or
	// the error of take or of ctx. Any server answers from what it knows. A follower that takes too long is told CodeTooOld.
	Events(ctx context.Context, r EventRequest, take func(EventBatch) error) error
	// JobTimeline tells what has happened to a job and why, oldest first. It is bounded: see KeptMoments. What a job has launched it
	// tells as long as that is known, and of the times that were passed over the latest, until the next one comes.
	JobTimeline(ctx context.Context, name string, q Query) ([]*EventView, ReadMeta, error)
}

// KeptMoments is how many rows the timeline of a job has at most.
const KeptMoments = 100

// Beat is how long a stream of events is silent at most: then an empty batch tells the index.
const Beat = 10 * time.Second
