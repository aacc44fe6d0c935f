package configs

import (
	"context"
	"slices"

	"sluice/gateway"
)

// Versions implements gateway.Settings.
func (l *Live) Versions(ctx context.Context, before int64, limit int) ([]gateway.SettingsVersion, error) {
	rows, err := l.versions.list(ctx, before, limit)
	if err != nil {
		return nil, err
	}
	list := make([]gateway.SettingsVersion, len(rows))
	for i, r := range rows {
		list[i] = r.shown()
		list[i].Values = r.values()
	}
	return list, nil
}

// Show implements gateway.Settings.
func (l *Live) Show(ctx context.Context) gateway.SettingsView {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.fresh(ctx, gateway.AnyVersion); err != nil {
		l.log.Warn("shown is the configuration as it was known last", "error", err)
	}
	view := gateway.SettingsView{Version: l.version.shown(), File: l.digest, Left: l.left, Keys: make([]gateway.Setting, len(l.boot.schema.keys))}
	for i, k := range l.boot.schema.keys {
		s := gateway.Setting{Key: k.path, Value: k.visible(l.counts.value(k)), Source: l.counts.sources[k.path], Hot: Hot(k.path)}
		if !slices.Contains(l.left, k.path) {
			until := l.overlay.until(k.path)
			s.Until = until[""]
			delete(until, "")
			s.UntilOf = until
		}
		view.Keys[i] = s
	}
	return view
}
