package configs

import (
	"context"
	"slices"

	"sluice/settings"
)

// Versions implements gateway.Settings.
func (l *Live) Versions(ctx context.Context, before int64, limit int) ([]settings.Version, error) {
	rows, err := l.versions.list(ctx, before, limit)
	if err != nil {
		return nil, err
	}
	list := make([]settings.Version, len(rows))
	for i, r := range rows {
		list[i] = r.shown()
		list[i].Values = r.values()
	}
	return list, nil
}

// Show implements gateway.Settings.
func (l *Live) Show(ctx context.Context) settings.View {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.fresh(ctx, settings.AnyVersion); err != nil {
		l.log.Warn("shown is the configuration as it was known last", "error", err)
	}
	view := settings.View{Version: l.version.shown(), File: l.digest, LeftOut: l.left, Keys: make([]settings.Setting, len(l.boot.schema.keys))}
	for i, k := range l.boot.schema.keys {
		s := settings.Setting{Key: k.path, Value: k.visible(l.counts.value(k)), Source: l.counts.sources[k.path], Hot: Hot(k.path)}
		if !slices.Contains(l.left, k.path) {
			until := l.overlay.until(k.path)
			s.Until = until[""]
			delete(until, "")
			s.UntilSale = until
		}
		view.Keys[i] = s
	}
	return view
}
