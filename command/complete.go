package command

import (
	"context"
	"flag"
	"time"

	"github.com/posener/complete"

	"cube/api"
)

// completionPatience is how long a person waits for the shell's answer to the tab key before it is a nuisance.
const completionPatience = time.Second

// AutocompleteFlags implements cli.CommandAutocomplete.
func (c *command) AutocompleteFlags() complete.Flags {
	flags := complete.Flags{}
	c.flagSet(new(generalFlags)).VisitAll(func(f *flag.Flag) {
		switch {
		case isBool(f):
			flags["-"+f.Name] = complete.PredictNothing
		case f.Name == "var-file", f.Name == "config", f.Name == "payload":
			flags["-"+f.Name] = complete.PredictFiles("*")
		case f.Name == "data-dir":
			flags["-"+f.Name] = complete.PredictDirs("*")
		case f.Name == "access":
			flags["-"+f.Name] = complete.PredictSet(api.Accesses()...)
		case f.Name == "log-level":
			flags["-"+f.Name] = complete.PredictSet("trace", "debug", "info", "warn", "error")
		default:
			flags["-"+f.Name] = complete.PredictAnything
		}
	})
	return flags
}

// AutocompleteArgs implements cli.CommandAutocomplete.
func (c *command) AutocompleteArgs() complete.Predictor {
	if c.predict == nil {
		return complete.PredictNothing
	}
	return c.predict(c.meta)
}

func predictTaskFiles(*Meta) complete.Predictor { return complete.PredictFiles("*.hcl") }

func predictFiles(*Meta) complete.Predictor { return complete.PredictFiles("*") }

// predictNames asks the agent for what begins with what is typed so far. Where there is no answer there is no completion:
// a shell that completes must not print errors.
func predictNames[T any](m *Meta, list func(context.Context, api.Cluster, api.Query) ([]T, error), name func(T) string) complete.Predictor {
	return complete.PredictFunc(func(a complete.Args) []string {
		cluster, err := m.Connect(m.Getenv("CUBE_ADDR"))
		if err != nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(m.Context, completionPatience)
		defer cancel()
		rows, err := list(ctx, cluster, api.Query{Stale: true, Prefix: a.Last})
		if err != nil {
			return nil
		}
		names := make([]string, 0, len(rows))
		for _, r := range rows {
			names = append(names, name(r))
		}
		return names
	})
}

func predictJobs(m *Meta) complete.Predictor {
	return predictNames(m, func(ctx context.Context, c api.Cluster, q api.Query) ([]*api.JobSummary, error) {
		rows, _, err := c.ListJobs(ctx, q)
		return rows, err
	}, func(j *api.JobSummary) string { return j.Name })
}

// predictNodes completes names, which are what people know nodes by, and IDs once something is typed.
func predictNodes(m *Meta) complete.Predictor {
	list := func(ctx context.Context, c api.Cluster, q api.Query) ([]*api.NodeView, error) {
		rows, _, err := c.ListNodes(ctx, api.Query{Stale: q.Stale})
		return rows, err
	}
	names := predictNames(m, list, func(n *api.NodeView) string { return n.Name })
	ids := predictNames(m, list, func(n *api.NodeView) string { return n.ID })
	return complete.PredictFunc(func(a complete.Args) []string {
		if a.Last == "" {
			return names.Predict(a)
		}
		return append(names.Predict(a), ids.Predict(a)...) // the shell takes those that begin as typed
	})
}

func predictPeers(m *Meta) complete.Predictor {
	return predictNames(m, func(ctx context.Context, c api.Cluster, _ api.Query) ([]api.RaftPeer, error) {
		return c.RaftPeers(ctx)
	}, func(p api.RaftPeer) string { return p.Name })
}

func predictAllocations(m *Meta) complete.Predictor {
	return predictNames(m, func(ctx context.Context, c api.Cluster, q api.Query) ([]*api.Allocation, error) {
		rows, _, err := c.ListAllocations(ctx, q)
		return rows, err
	}, func(a *api.Allocation) string { return a.ID })
}

func predictEvaluations(m *Meta) complete.Predictor {
	return predictNames(m, func(ctx context.Context, c api.Cluster, q api.Query) ([]*api.EvaluationView, error) {
		rows, _, err := c.ListEvaluations(ctx, q)
		return rows, err
	}, func(e *api.EvaluationView) string { return e.ID })
}

func predictVolumes(m *Meta) complete.Predictor {
	return predictNames(m, func(ctx context.Context, c api.Cluster, q api.Query) ([]*api.VolumeView, error) {
		rows, _, err := c.ListVolumes(ctx, q)
		return rows, err
	}, func(v *api.VolumeView) string { return v.Name })
}
