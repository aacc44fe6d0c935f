package admin

import (
	"context"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"sluice/adminlog"
	"sluice/api"
)

func (h *config) listVersions(c *gin.Context) {
	limit, bad := api.PageSize(c)
	before := int64(0)
	if text, ok := c.GetQuery("before"); ok {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			bad = append(bad, api.Field("before", "must be a version, 1 or more"))
		}
		before = n
	}
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	versions, err := h.settings.Versions(c.Request.Context(), before, limit+1)
	if err != nil {
		h.refuse(c, err)
		return
	}
	list := api.ConfigVersions{Versions: []api.ConfigVersionValues{}}
	if len(versions) > limit {
		versions = versions[:limit]
		list.Next = versions[limit-1].Version
	}
	for _, v := range versions {
		list.Versions = append(list.Versions, api.ConfigVersionValues{ConfigVersion: versionOf(v), Values: v.Values})
	}
	c.JSON(http.StatusOK, list)
}

func (h *config) reload(c *gin.Context) {
	var body api.WithReason
	if !h.read(c, &body) {
		return
	}
	by, ok := h.author(c, body.Reason, false)
	if !ok {
		return
	}
	ctx := c.Request.Context()
	var answer api.Reload
	act := adminlog.Act{Actor: by.Actor, Action: "config.reload", Target: "file", Reason: by.Reason}
	err := h.adminLog.RecordChange(ctx, act, h.fileImage(ctx), unchanged, func(ctx context.Context) (any, error) {
		result, err := h.settings.Reload(ctx, by)
		after := h.fileImage(ctx)
		answer = api.Reload{Version: after.Version, Changed: orEmpty(result.Changed),
			Overridden:   orEmpty(result.Overridden),
			NeedsRestart: orEmpty(result.NeedsRestart)}
		after.Changed, after.NeedsRestart = result.Changed, result.NeedsRestart
		return after, err
	})
	if err != nil {
		h.refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, answer)
}

// fileImage is what a reload reads, as the admin log shows it. The values it changed are in the entry of the version
// it made.
type fileImage struct {
	Version      int64    `json:"version"`
	File         string   `json:"config_file"`
	Changed      []string `json:"changed,omitempty"`
	NeedsRestart []string `json:"needs_restart,omitempty"`
}

func (h *config) fileImage(ctx context.Context) fileImage {
	view := h.settings.Show(ctx)
	return fileImage{Version: view.Version.Version, File: view.File}
}

// orEmpty makes a list that is missing an empty one in JSON.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// revert brings the keys under prefix back to an earlier version.
func (h *config) revert(prefix string) gin.HandlerFunc {
	return func(c *gin.Context) {
		var body struct {
			To     int64  `json:"to"` // 0: the newest that makes a difference
			Reason string `json:"reason"`
		}
		if !h.read(c, &body) {
			return
		}
		if body.To < 0 {
			api.WriteProblem(c, api.InvalidRequest(api.Field("to",
				"must be a version, or 0 for the newest that makes a difference")))
			return
		}
		by, ok := h.author(c, body.Reason, false)
		if !ok {
			return
		}
		if err := h.settings.Revert(c.Request.Context(), body.To, prefix, by); err != nil {
			h.refuse(c, err)
			return
		}
		if prefix == limitsKeys {
			h.showLimits(c)
			return
		}
		h.showConfig(c)
	}
}
