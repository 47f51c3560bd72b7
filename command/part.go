package command

import (
	"strconv"

	"cube/api"
)

// printParts shows how the sidecars and hooks of an instance stand.
func printParts(s *session, f moments, parts []api.PartStatus) {
	if len(parts) == 0 {
		return
	}
	s.section("Parts")
	t := newTable("Part", "Kind", "Status", "Restarts", "Started", "Last Exit", "Message")
	t.colourColumn(2, s.style.state)
	for _, p := range parts {
		status, exit := p.Phase.String(), ""
		if p.StartedAt.IsZero() && p.Phase == api.PhasePending && p.Restarts == 0 {
			status = "waiting" // for its turn
		}
		if p.ExitCode != nil {
			exit = api.ExitText(*p.ExitCode, p.Signal)
			if p.OOM {
				exit += ", for want of memory"
			}
		}
		t.add(p.Name, string(p.Kind), status, strconv.Itoa(p.Restarts), f.ago(p.StartedAt), exit, p.Message)
	}
	s.print(t.render(s.style, 0)) // a message is not shortened: it says why
}
