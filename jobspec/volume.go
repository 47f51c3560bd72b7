package jobspec

import "cube/api"

// readVolumes reads which volumes of its node each instance wants, and whether it has a directory of its own.
func (p *parser) readVolumes(b *body, t *api.Task) {
	b.block1("ephemeral_disk", func(r *body) {
		t.EphemeralDisk = &api.EphemeralDisk{}
		r.text("destination", &t.EphemeralDisk.Destination)
		r.flag("sticky", &t.EphemeralDisk.Sticky)
		r.text("move", &t.EphemeralDisk.Move)
	})
	seen := map[string]string{}
	b.each("volume", 1, func(r *body) {
		v := api.VolumeRequest{Name: r.block.Labels[0]}
		place := r.block.LabelRanges[0]
		if other, ok := seen[v.Name]; ok {
			p.addf(place, "volume %q is there already, at %s", v.Name, other)
		}
		seen[v.Name] = p.place(place)
		r.text("source", &v.Source)
		r.text("destination", &v.Destination)
		r.text("access", &v.Access)
		readOnly := false
		if r.flag("read_only", &readOnly); readOnly {
			if v.Access != "" && v.Access != api.AccessMultiReader {
				p.addf(r.attr("read_only").Expr.Range(), "read_only = true is access %q, not %q", api.AccessMultiReader, v.Access)
			}
			v.Access = api.AccessMultiReader
		}
		t.Volumes = append(t.Volumes, v)
	})
}
