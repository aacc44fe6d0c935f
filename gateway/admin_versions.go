package gateway

import (
	"context"
	"net/http"
	"strconv"

	"sluice/adminlog"

	"github.com/gin-gonic/gin"
)

type versionList struct {
	Versions []versionEntry `json:"versions"`
	Next     int64          `json:"next,omitempty"` // before for the next page; absent on the last
}

type versionEntry struct {
	versionBody
	Values map[string]any `json:"values"`
}

func (o *Ops) listVersions(c *gin.Context) {
	_, limit, bad := pageOf(c)
	before := int64(0)
	if text, ok := c.GetQuery("before"); ok {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			bad = append(bad, FieldError{"before", "must be a version, 1 or more"})
		}
		before = n
	}
	if len(bad) > 0 {
		WriteProblem(c, InvalidRequest(bad...))
		return
	}
	versions, err := o.Settings.Versions(c.Request.Context(), before, limit+1)
	if err != nil {
		o.refuse(c, err)
		return
	}
	list := versionList{Versions: []versionEntry{}}
	if len(versions) > limit {
		versions = versions[:limit]
		list.Next = versions[limit-1].Version
	}
	for _, v := range versions {
		list.Versions = append(list.Versions, versionEntry{versionOf(v), v.Values})
	}
	c.JSON(http.StatusOK, list)
}

type reloadBody struct {
	Version      int64    `json:"version"`
	Changed      []string `json:"changed"`
	Overridden   []string `json:"overridden"` // changed in the file, but set by operators
	NeedsRestart []string `json:"needs_restart"`
}

func (o *Ops) reload(c *gin.Context) {
	var body reasonBody
	if !o.read(c, &body) {
		return
	}
	by, ok := o.author(c, body.Reason, false)
	if !ok {
		return
	}
	ctx := c.Request.Context()
	var answer reloadBody
	act := adminlog.Act{Actor: by.Actor, Action: "config.reload", Target: "file", Reason: by.Reason}
	err := o.AdminLog.RecordChange(ctx, act, o.fileImage(ctx), unchanged, func(ctx context.Context) (any, error) {
		result, err := o.Settings.Reload(ctx, by)
		after := o.fileImage(ctx)
		answer = reloadBody{Version: after.Version, Changed: orEmpty(result.Changed), Overridden: orEmpty(result.Overridden),
			NeedsRestart: orEmpty(result.NeedsRestart)}
		after.Changed, after.NeedsRestart = result.Changed, result.NeedsRestart
		return after, err
	})
	if err != nil {
		o.refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, answer)
}

// fileImage is what a reload reads, as the admin log shows it. The values it changed are in the entry of the version it made.
type fileImage struct {
	Version      int64    `json:"version"`
	File         string   `json:"config_file"`
	Changed      []string `json:"changed,omitempty"`
	NeedsRestart []string `json:"needs_restart,omitempty"`
}

func (o *Ops) fileImage(ctx context.Context) fileImage {
	view := o.Settings.Show(ctx)
	return fileImage{Version: view.Version.Version, File: view.File}
}

// orEmpty makes a list that is missing an empty one in JSON.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
