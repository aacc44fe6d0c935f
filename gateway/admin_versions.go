package gateway

import (
	"net/http"
	"strconv"

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
	result, err := o.Settings.Reload(c.Request.Context(), by)
	if err == nil {
		err = o.Catalog.Note(c.Request.Context(), by.Actor, "config.reload", "file", by.Reason)
	}
	if err != nil {
		o.refuse(c, err)
		return
	}
	c.JSON(http.StatusOK, reloadBody{Version: o.Settings.Show(c.Request.Context()).Version.Version, Changed: orEmpty(result.Changed), NeedsRestart: orEmpty(result.NeedsRestart)})
}

// orEmpty makes a list that is missing an empty one in JSON.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
