package command

import (
	"context"

	"cube/api"
)

// resolveNode turns what a person typed into a node ID that servers understand: they take any unique prefix of an ID;
// the node's name, when just one node has it, is found here.
func resolveNode(ctx context.Context, cluster api.Cluster, typed string, q api.Query) (string, error) {
	node, _, err := cluster.Node(ctx, typed, q)
	if err == nil {
		return node.ID, nil
	}
	if code := api.CodeOf(err); code != api.CodeNotFound && code != api.CodeInvalid {
		return "", err
	}
	nodes, _, listErr := cluster.ListNodes(ctx, api.Query{Stale: q.Stale})
	if listErr != nil {
		return "", err
	}
	found := ""
	for _, n := range nodes {
		if n.Name != typed {
			continue
		}
		if found != "" {
			return "", api.Errorf(api.CodeAmbiguous, "several nodes are named %q; give an ID of 'cube node status'", typed)
		}
		found = n.ID
	}
	if found == "" {
		return "", err
	}
	return found, nil
}

// eligibility is the word for whether new instances may be placed on the node.
func eligibility(n *api.NodeView) string {
	switch {
	case n.Drain.Active():
		return "draining"
	case n.Drain != nil:
		return "drained"
	case n.Ineligible:
		return "ineligible"
	}
	return "eligible"
}

// eligibilityText says whether new instances may be placed on the node, since when, who said so and why: "ineligible, since 30m
// ago, by ada@ops: new disks".
func eligibilityText(f moments, n *api.NodeView) string {
	text := eligibility(n)
	if n.EligibilityAt.IsZero() {
		return text
	}
	text += ", since " + f.ago(n.EligibilityAt)
	if n.Drain != nil {
		return text // the drain says who, and why
	}
	if n.EligibilityBy != "" {
		text += ", by " + n.EligibilityBy
	}
	if n.EligibilityReason != "" {
		text += ": " + n.EligibilityReason
	}
	return text
}

// troubles lists what keeps a node from doing its work, one sentence each.
func troubles(n *api.NodeView) []string {
	var out []string
	if n.StatusReason != "" && n.Status != api.NodeReady {
		out = append(out, string(n.Status)+": "+n.StatusReason)
	}
	if n.Status == api.NodeReady && !n.Connected {
		out = append(out, "it has no session with a server; what runs there goes on, and moves elsewhere when the node counts as down")
	}
	for _, name := range sortedKeys(n.Drivers) {
		d := n.Drivers[name]
		// A driver that was never installed is no trouble, but docker is what every task asks for by default.
		if d.Healthy || d.Reason == "" || !d.Detected && name != api.DefaultDriver {
			continue
		}
		out = append(out, "driver "+name+": "+d.Reason)
	}
	if reason := n.Attributes["client.trouble"]; reason != "" {
		out = append(out, reason)
	}
	if reason := n.Attributes["device.trouble"]; reason != "" {
		out = append(out, "not offered: "+reason)
	}
	if reason := n.Attributes["volume.trouble"]; reason != "" {
		out = append(out, "not offered: "+reason)
	}
	return out
}
