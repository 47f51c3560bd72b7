package command

import (
	"io"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/creack/pty"

	"cube/api"
)

func TestTopOnce(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		p.cube(0, "top", "-once")
		golden(t, "top", p.stdout.String())
		p.stdout = buffer{}
		p.cube(0, "top", "-once", "-job", "web")
		golden(t, "top_job", p.stdout.String())
		p.stdout = buffer{}
		p.cube(0, "top", "-once", "-node", "n1", "-sort", "cpu")
		golden(t, "top_node", p.stdout.String())
		p.stdout = buffer{}
		p.cube(0, "top", "-t", "{{len .Nodes}} {{len .Jobs}} {{len .Usage.Instances}}")
		if got := p.stdout.String(); got != "3 2 1\n" {
			t.Errorf("-t gives %q", got)
		}
	})
}

func TestTopSaysWhatIsWrong(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		for line, want := range map[string]string{
			"top":                     "standard output is no terminal; -once prints one screen",
			"top -sort age":           `-sort is name, cpu or memory, not "age"`,
			"top -node n1 -job web":   "-node and -job exclude each other",
			"top -once -node nowhere": `Error reading node "nowhere"`,
			"top -once -job nothing":  `Error reading job "nothing": there is no job "nothing"`,
			"top -job nothing":        `Error reading job "nothing": there is no job "nothing"`,
			"top web":                 "this command takes no arguments",
		} {
			p.stderr = buffer{}
			p.cube(1, strings.Fields(line)...)
			p.complains(want)
		}
	})
}

// on is a model with the cluster's rows, on a terminal of that size.
func on(t *testing.T, c *fakeCluster, p *terminal, columns, rows int) *topModel {
	t.Helper()
	m := newTopModel(t.Context(), &session{Meta: p.meta}, c, topPlace{}, byName)
	m.Update(tea.WindowSizeMsg{Width: columns, Height: rows})
	nodes, _, _ := c.ListNodes(t.Context(), api.Query{})
	jobs, _, _ := c.ListJobs(t.Context(), api.Query{})
	m.Update(nodesRead{nodes: nodes, index: 1})
	m.Update(jobsRead{jobs: jobs, index: 1})
	return m
}

// typed sends keys, and what they ask for back to the model, as far as it comes at once.
func (m *topModel) typed(keys ...tea.KeyPressMsg) {
	for _, k := range keys {
		_, cmd := m.Update(k)
		m.play(cmd, 2)
	}
}

func (m *topModel) play(cmd tea.Cmd, depth int) {
	if cmd == nil || depth == 0 {
		return
	}
	switch msg := cmd().(type) {
	case tea.BatchMsg:
		for _, c := range msg {
			m.play(c, depth)
		}
	default:
		m.Update(msg) // what it asks for next waits for a change
	}
}

func key(text string) tea.KeyPressMsg {
	switch text {
	case "enter":
		return tea.KeyPressMsg{Code: tea.KeyEnter}
	case "esc":
		return tea.KeyPressMsg{Code: tea.KeyEscape}
	case "tab":
		return tea.KeyPressMsg{Code: tea.KeyTab}
	case "down":
		return tea.KeyPressMsg{Code: tea.KeyDown}
	}
	return tea.KeyPressMsg{Code: rune(text[0]), Text: text}
}

func (m *topModel) chosenLine(t *testing.T) string {
	t.Helper()
	found := ""
	for _, l := range m.screen() {
		if rest, ok := strings.CutPrefix(l, "> "); ok {
			if found != "" {
				t.Errorf("two rows are chosen: %q and %q", found, rest)
			}
			found = rest
		}
	}
	return found
}

func TestTopKeys(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		m := on(t, c, p, 120, 30)
		m.play(m.measure(false), 1)
		for _, step := range []struct{ key, chosen, shows string }{
			{"", "n1", "Nodes (3)"},
			{"down", "n2", "Tasks (2)"},
			{"k", "n1", ""},
			{"tab", "shop", "2 of 3 nodes ready"},
			{"down", "web", "0.042/0.1"},
			{"down", "web", ""},
			{"enter", "web[0]", "Instances of web (2)"},
			{"esc", "web", "Nodes (3)"},
			{"tab", "n1", ""},
			{"enter", "shop/pay[0]", "Instances on n1 (2)"},
			{"j", "web[0]", ""},
			{"c", "web[0]", "by cpu"},
			{"esc", "n1", "Tasks (2)"},
			{"m", "n1", "by memory"},
		} {
			if step.key != "" {
				m.typed(key(step.key))
			}
			screen := strings.Join(m.screen(), "\n")
			if got := m.chosenLine(t); !strings.HasPrefix(got, step.chosen+" ") || !strings.Contains(screen, step.shows) {
				t.Fatalf("after %q the row %q is chosen, want %q, and the screen is to show %q:\n%s", step.key, got, step.chosen, step.shows, screen)
			}
		}
		if _, cmd := m.Update(key("q")); cmd == nil {
			t.Error("q does nothing")
		} else if _, ok := cmd().(tea.QuitMsg); !ok {
			t.Error("q does not quit")
		}
	})
}

// TestTopFitsTheTerminal has more rows than lines, and terminals of all sizes.
func TestTopFitsTheTerminal(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		for i := range 50 {
			name := "job-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
			c.do(func() {
				c.jobs[name] = &api.Job{Name: name, Type: api.JobService, Tasks: []*api.Task{api.DefaultTask("x")}}
			})
		}
		m := on(t, c, p, 100, 24)
		m.typed(key("tab"))
		for range 60 {
			m.typed(key("j"))
		}
		for _, size := range [][2]int{{100, 24}, {200, 60}, {40, 12}, {10, 3}, {1, 1}, {100, 24}} {
			m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
			lines := m.screen()
			if len(lines) > size[1] {
				t.Errorf("on %v there are %d lines", size, len(lines))
			}
			for _, l := range lines {
				if textWidth(l) > size[0] {
					t.Errorf("on %v a line is %d wide: %q", size, textWidth(l), l)
				}
			}
		}
		if got := m.chosenLine(t); !strings.HasPrefix(got, "web ") {
			t.Errorf("the last row is chosen and not on the screen:\n%s", strings.Join(m.screen(), "\n"))
		}
		if _, jobs := m.shown(); len(jobs) == 0 || len(jobs) > 24 {
			t.Errorf("%d jobs are measured", len(jobs))
		}
	})
}

func TestTopSaysThatTheClusterCannotBeAsked(t *testing.T) {
	bubble(t, func(t *testing.T, c *fakeCluster, p *terminal) {
		populated(c)
		m := on(t, c, p, 100, 24)
		m.Update(nodesRead{err: api.Errorf(api.CodeUnavailable, "nobody answers\x1b[2J")})
		if screen := strings.Join(m.screen(), "\n"); !strings.Contains(screen, `The cluster cannot be asked: nobody answers\x1b[2J`) || !strings.Contains(screen, "n1") {
			t.Errorf("the rows and the trouble are to stand there:\n%s", screen)
		}
		m.Update(nodesRead{nodes: m.data.Nodes, index: 2})
		if screen := strings.Join(m.screen(), "\n"); strings.Contains(screen, "cannot be asked") {
			t.Errorf("the trouble is over:\n%s", screen)
		}
	})
}

// TestTopOnATerminal runs the whole on a pseudo terminal: it is drawn, follows a change of the cluster and of the window,
// looks into a node, and gives the terminal back.
func TestTopOnATerminal(t *testing.T) {
	for _, noColor := range []string{"", "1"} {
		person, tty, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer person.Close()
		if err := pty.Setsize(tty, &pty.Winsize{Cols: 110, Rows: 30}); err != nil {
			t.Fatal(err)
		}
		c := newFakeCluster()
		populated(c)
		m := newMeta(tty, tty, tty)
		m.Getenv = func(name string) string {
			return map[string]string{"NO_COLOR": noColor, "TERM": "xterm-256color"}[name]
		}
		m.Environ = func() []string { return []string{"TERM=xterm-256color", "NO_COLOR=" + noColor} }
		m.Connect = newTerminal(t, c).meta.Connect
		seen, read := &buffer{}, make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(seen, person) // ends with EIO when the terminal's other end is closed
		}()
		sees := func(want string) {
			t.Helper()
			watchdog := time.After(20 * time.Second)
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for !strings.Contains(seen.String(), want) {
				select {
				case <-tick.C:
				case <-watchdog:
					t.Fatalf("the terminal does not show %q: %q", want, seen.String())
				}
			}
		}
		ended := make(chan int)
		go func() { ended <- m.main([]string{"top"}) }()
		sees("n3") // only what changes is written anew: what is waited for is new in its place
		sees("shop")
		c.addNode("n4", nil)
		sees("n4")
		if err := pty.Setsize(tty, &pty.Winsize{Cols: 90, Rows: 20}); err != nil {
			t.Fatal(err)
		}
		if _, err := person.Write([]byte("\r")); err != nil {
			t.Fatal(err)
		}
		sees("Instances on")
		if _, err := person.Write([]byte("q")); err != nil {
			t.Fatal(err)
		}
		if code := <-ended; code != 0 {
			t.Errorf("it ends with %d", code)
		}
		tty.Close()
		<-read
		screen := seen.String()
		if !strings.Contains(screen, "\x1b[?1049h") || !strings.Contains(screen, "\x1b[?1049l") {
			t.Errorf("it does not give the person's screen back: %q", screen)
		}
		if coloured := strings.Contains(screen, "\x1b[32m"); coloured != (noColor == "") {
			t.Errorf("with NO_COLOR=%q there are colours: %v", noColor, coloured)
		}
	}
}
