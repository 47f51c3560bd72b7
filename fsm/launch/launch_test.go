package launch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cube/api"
)

// world keeps jobs as the state machine does, with a table beside them.
type world struct {
	table    Table
	jobs     map[string]*api.Job
	finished map[string]bool
	index    uint64
	minted   int
	now      time.Time
}

func newWorld(parents ...*api.Job) *world {
	w := &world{table: New(), jobs: map[string]*api.Job{}, finished: map[string]bool{}, now: time.Unix(1_700_000_000, 0).UTC()}
	for _, j := range parents {
		w.put(j)
	}
	return w
}

// put takes over a version of a job.
func (w *world) put(j *api.Job) {
	w.index++
	own := *j
	if old := w.jobs[j.Name]; old != nil {
		own.CreateIndex = old.CreateIndex
	} else {
		own.CreateIndex = w.index
	}
	w.jobs[j.Name] = &own
	w.table.Note(j.Name, &own)
}

func (w *world) forget(name string) {
	w.table.Forget(w.jobs[name])
	w.table.Note(name, nil)
	delete(w.jobs, name)
	delete(w.finished, name)
}

func (w *world) known() Jobs {
	return Jobs{
		Known:    func(name string) bool { return w.jobs[name] != nil },
		Finished: func(name string) bool { return w.finished[name] },
		Job:      func(name string) *api.Job { return w.jobs[name] },
	}
}

func (w *world) mint() string { w.minted++; return fmt.Sprintf("%08x", w.minted) }

func (w *world) dispatch(parent string, r api.DispatchRequest) (Dispatch, error) {
	d, err := w.table.Dispatch(w.jobs[parent], &r, w.known(), "ada", w.mint)
	if d.Child != nil {
		w.put(d.Child)
	}
	return d, err
}

// due has the periodic parent launched for the next full hour.
func (w *world) due(parent string) (child *api.Job, note string, err error) {
	w.now = w.now.Truncate(time.Hour).Add(time.Hour)
	noted, child, err := w.table.Take(&Order{Name: parent, Time: w.now.Unix()}, w.jobs[parent], w.known(), w.now)
	if err != nil {
		return nil, "", err
	}
	w.put(noted)
	if child != nil {
		w.put(child)
	}
	return child, noted.Launched.Note, nil
}

func parentJob(name string, change func(*api.Job)) *api.Job {
	task := api.DefaultTask(name)
	j := &api.Job{Name: name, Type: api.JobBatch, Tasks: []*api.Task{task}, Version: 3, SubmittedBy: "bob", Source: &api.Source{FileName: name + ".hcl"}}
	change(j)
	return j
}

func resize(change func(*api.Parameterized)) *api.Job {
	return parentJob("resize", func(j *api.Job) {
		j.Parameterized = &api.Parameterized{Payload: api.PayloadOptional, MetaRequired: []string{"size"}}
		change(j.Parameterized)
	})
}

func backup(overlap bool) *api.Job {
	return parentJob("backup", func(j *api.Job) {
		j.Periodic = &api.Periodic{Crons: []string{"0 * * * *"}, OnMissed: api.MissedSkip, ProhibitOverlap: !overlap}
	})
}

// small is what a resize wants; nobody changes it.
var small = map[string]string{"size": "small"}

func TestADispatchedJob(t *testing.T) {
	w := newWorld(resize(func(*api.Parameterized) {}), parentJob("resize-00000001", func(*api.Job) {}))
	d, err := w.dispatch("resize", api.DispatchRequest{Meta: small, Payload: []byte("x"), ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	c := d.Child
	switch {
	case c.Name != "resize-00000002": // the first name is another job's
		t.Errorf("it is called %s", c.Name)
	case c.Parent != "resize" || c.Origin != `dispatched as "a"` || c.SubmittedBy != "ada":
		t.Errorf("it comes from %q, %q, %q", c.Parent, c.Origin, c.SubmittedBy)
	case c.Launches() || c.Source != nil:
		t.Errorf("it is %+v", c)
	case c.Dispatched.ID != "a" || string(c.Dispatched.Payload) != "x" || !maps.Equal(c.Dispatched.Meta, small) || !slices.Equal(c.Dispatched.Keys, []string{"size"}):
		t.Errorf("it is told %+v", c.Dispatched)
	case len(c.Tasks) != 1 || c.Tasks[0] != w.jobs["resize"].Tasks[0]:
		t.Errorf("its tasks are others")
	}
}

// TestARequestIsLaunchedOnce: the same request finds its job, whatever has become of either job; once that is forgotten it is new.
func TestARequestIsLaunchedOnce(t *testing.T) {
	w := newWorld(resize(func(*api.Parameterized) {}), backup(true))
	ask := func(parent string, r api.DispatchRequest) string {
		t.Helper()
		d, err := w.dispatch(parent, r)
		switch {
		case err != nil:
			return fmt.Sprintf("%s %s", api.CodeOf(err), err)
		case d.Known != nil:
			return "known " + d.Known.Name
		}
		return "new " + d.Child.Name
	}
	says := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
	request := api.DispatchRequest{Meta: small, ID: "a"}
	says(ask("resize", request), "new resize-00000001")
	says(ask("resize", request), "known resize-00000001")
	says(ask("resize", api.DispatchRequest{Meta: small}), "new resize-00000002")
	says(ask("resize", api.DispatchRequest{Meta: small}), "new resize-00000003")
	says(ask("resize", api.DispatchRequest{Meta: small, Payload: []byte("x"), ID: "a"}), `conflict id "a" was used before for something else: job resize-00000001 was launched with it`)
	says(ask("backup", api.DispatchRequest{ID: "a"}), "new backup-00000004") // another job's affair
	w.finished["resize-00000001"] = true
	stopped := *w.jobs["resize"]
	stopped.Stopped = true
	w.put(&stopped)
	says(ask("resize", request), "known resize-00000001")
	says(ask("resize", api.DispatchRequest{Meta: small, ID: "b"}), `conflict job "resize" is stopped; run it again first`)
	w.put(resize(func(*api.Parameterized) {}))
	w.forget("resize-00000001")
	says(ask("resize", request), "new resize-00000005")
}

func TestWhatStandsInTheWay(t *testing.T) {
	w := newWorld(backup(false), resize(func(*api.Parameterized) {}))
	first, err := w.dispatch("backup", api.DispatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.dispatch("backup", api.DispatchRequest{}); err == nil || err.Error() != `job "backup" is not launched: backup-00000001 still runs, and it prohibits an overlap` {
		t.Errorf("an overlap: %v", err)
	}
	if _, note, _ := w.due("backup"); note != "backup-00000001 still runs" {
		t.Errorf("its time comes meanwhile: %q", note)
	}
	w.finished[first.Child.Name] = true
	if child, note, err := w.due("backup"); err != nil || child == nil {
		t.Errorf("it has finished: %q, %v", note, err)
	}
	for range api.MaxUnfinished {
		if _, err := w.dispatch("resize", api.DispatchRequest{Meta: small}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.dispatch("resize", api.DispatchRequest{Meta: small}); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "1000 that it has launched have not finished") {
		t.Errorf("one too many: %v", err)
	}
	w.finished["resize-00000003"] = true
	if _, err := w.dispatch("resize", api.DispatchRequest{Meta: small}); err != nil {
		t.Errorf("one has finished: %v", err)
	}
	minted := w.minted
	if _, err := w.dispatch("resize", api.DispatchRequest{}); err == nil || w.minted != minted {
		t.Errorf("a refusal took %d digits: %v", w.minted-minted, err)
	}
}

// TestAnyLaunches drives a periodic and a parameterized job through random times, requests, ends and forgettings: no time and no
// request is launched twice, nothing overlaps that may not, what is kept is what retention keeps, and a table that is made anew
// from the jobs, as after a restore, says the same.
func TestAnyLaunches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		overlap := rapid.Bool().Draw(t, "overlap")
		w := newWorld(backup(overlap), resize(func(*api.Parameterized) {}))
		requests := map[string]string{} // ID -> the job
		launched := map[string]bool{}
		begun := func(c *api.Job) {
			if launched[c.Name] {
				t.Fatalf("%s is launched twice", c.Name)
			}
			launched[c.Name] = true
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				if child, _, err := w.due("backup"); err != nil {
					t.Fatal(err)
				} else if child != nil {
					begun(child)
				}
				again := &Order{Name: "backup", Time: w.now.Unix()}
				if _, _, err := w.table.Take(again, w.jobs["backup"], w.known(), w.now); api.CodeOf(err) != api.CodeConflict {
					t.Fatalf("the same time again: %v", err)
				}
			case 1, 2:
				parent := rapid.SampledFrom([]string{"backup", "resize"}).Draw(t, "parent")
				id := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "id")
				r := api.DispatchRequest{ID: id}
				if parent == "resize" {
					r.Meta = small
				}
				key := parent + "/" + id
				d, err := w.dispatch(parent, r)
				switch {
				case d.Child != nil:
					if old := requests[key]; id != "" && w.jobs[old] != nil {
						t.Fatalf("%s is launched again, as %s", old, d.Child.Name)
					}
					requests[key] = d.Child.Name
					begun(d.Child)
				case d.Known != nil:
					if id == "" || requests[key] != d.Known.Name {
						t.Fatalf("%q finds %s", key, d.Known.Name)
					}
				case parent == "resize" || overlap || err == nil:
					t.Fatalf("%q: %v", key, err)
				}
			case 3:
				if open := w.table.unfinished("resize", 3, w.known()); len(open) > 0 {
					w.finished[rapid.SampledFrom(open).Draw(t, "ends")] = true
				}
			case 4:
				for _, name := range w.table.unfinished("backup", api.MaxUnfinished, w.known()) {
					w.finished[name] = true
				}
			case 5:
				for _, parent := range w.table.Parents(0) {
					for _, name := range w.table.Spent(parent, true, w.known().Finished) {
						w.forget(name)
					}
				}
			}
			w.check(t, overlap)
		}
	})
}

func (w *world) check(t *rapid.T, overlap bool) {
	again := New()
	byAge := slices.SortedFunc(maps.Values(w.jobs), func(a, b *api.Job) int { return int(a.CreateIndex) - int(b.CreateIndex) })
	children := map[string][]string{} // newest first
	for _, j := range byAge {
		again.Note(j.Name, j)
		if j.Parent != "" {
			children[j.Parent] = slices.Insert(children[j.Parent], 0, j.Name)
		}
	}
	for _, parent := range []string{"backup", "resize"} {
		got, anew := w.table.Children(parent), again.Children(parent)
		if !slices.Equal(got, children[parent]) || !slices.Equal(anew, got) {
			t.Fatalf("children of %s: %v, after a restore %v, want %v", parent, got, anew, children[parent])
		}
		for _, id := range []string{"a", "b"} {
			x, _ := w.table.requests.Get(request{parent: parent, id: id})
			y, _ := again.requests.Get(request{parent: parent, id: id})
			if x != y || x.name != "" && w.jobs[x.name] == nil {
				t.Fatalf("request %s of %s is of %+v, after a restore of %+v", id, parent, x, y)
			}
		}
	}
	if open := w.table.unfinished("backup", 2, w.known()); !overlap && len(open) > 1 {
		t.Fatalf("%v overlap", open)
	}
}
