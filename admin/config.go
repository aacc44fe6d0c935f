package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/adminlog"
	"sluice/api"
	"sluice/internal/invalid"
	"sluice/settings"
)

// Settings is the configuration that changes while Sluice runs, as the
// operations listener needs it. Safe for concurrent use.
type Settings interface {
	// Show returns what counts in this process, the newest version included. While the database
	// does not answer, it returns the newest this process knows.
	Show(ctx context.Context) settings.View
	// Change sets and unsets hot keys for all instances, all of them or none.
	// It returns settings.ErrVersion, or an invalid.Error that names each key.
	Change(ctx context.Context, c settings.Change) error
	// Revert brings back the hot keys under prefix as they were at version to. What was to end, and has, stays ended.
	// To 0 is the newest version that makes a difference to them. It returns settings.ErrNoVersion when there is
	// none.
	Revert(ctx context.Context, to int64, prefix string, by settings.Author) error
	// Reload reads the file of this process again.
	Reload(ctx context.Context, by settings.Author) (settings.ReloadResult, error)
	// Versions lists what was changed, newest first, older than before when that is not 0.
	Versions(ctx context.Context, before int64, limit int) ([]settings.Version, error)
}

const (
	maxReason  = 200
	maxChange  = 30 * 24 * time.Hour // a change for longer is one for good
	logLevel   = "log.level"
	limitsKeys = "limits."
)

// config answers for the configuration: keys, limits, switches and log level.
type config struct {
	saleChecker
	settings Settings
	adminLog *adminlog.Log
}

func (h *config) routes(group gin.IRoutes) {
	group.GET("/config", h.showConfig)
	group.PATCH("/config", h.changeConfig)
	group.POST("/config/revert", h.revert(""))
	group.GET("/config/versions", h.listVersions)
	group.POST("/reload", h.reload)
	group.GET("/log-level", h.showLogLevel)
	group.PUT("/log-level", h.setLogLevel)
	group.GET("/limits", h.showLimits)
	group.PATCH("/limits", h.changeLimits)
	group.POST("/limits/revert", h.revert(limitsKeys))
	group.GET("/switches", h.showSwitches)
	group.PUT("/switches/admission", h.switchAdmission)
	group.PUT("/switches/drain", h.switchDrain)
}

func versionOf(v settings.Version) api.ConfigVersion {
	return api.ConfigVersion{Version: v.Version, At: api.FormatTime(v.At), Actor: v.Actor, Source: v.Source,
		Reason: v.Reason}
}

// etag names a version of the whole configuration. So a change of another key makes a condition
// fail, too, and the caller looks again.
func etag(c *gin.Context, version int64) {
	c.Header("ETag", `"`+strconv.FormatInt(version, 10)+`"`)
	c.Header("Cache-Control", "no-store")
}

func (h *config) showConfig(c *gin.Context) {
	view := h.settings.Show(c.Request.Context())
	body := api.Config{ConfigVersion: versionOf(view.Version), File: view.File, Left: view.LeftOut,
		Keys: make([]api.Setting, len(view.Keys))}
	for i, k := range view.Keys {
		body.Keys[i] = api.Setting{Key: k.Key, Value: k.Value, Source: k.Source, Hot: k.Hot,
			Until: api.FormatTime(k.Until)}
		if len(k.UntilSale) > 0 {
			body.Keys[i].UntilOf = map[string]string{}
			for sale, at := range k.UntilSale {
				body.Keys[i].UntilOf[sale] = api.FormatTime(at)
			}
		}
	}
	etag(c, view.Version.Version)
	c.JSON(http.StatusOK, body)
}

// author reads who asks, why, and on what version, or answers the request.
func (h *config) author(c *gin.Context, reason string, mustMatch bool) (settings.Author, bool) {
	by := settings.Author{Actor: actorOf(c), Reason: reason, IfVersion: settings.AnyVersion}
	if len(reason) > maxReason || !api.Printable(reason) {
		api.WriteProblem(c, api.InvalidRequest(api.Field("reason",
			"must be at most 200 characters without control characters")))
		return by, false
	}
	match := c.GetHeader("If-Match")
	switch {
	case match == "" && mustMatch:
		api.WriteProblem(c, api.NewProblem(api.CodeNoCondition,
			"Send If-Match with the ETag this change was decided on, or * to make it whatever counts."))
		return by, false
	case match == "" || match == "*":
		return by, true
	}
	version, err := strconv.ParseInt(strings.Trim(match, `"`), 10, 64)
	if err != nil || version < 0 {
		api.WriteProblem(c, api.NewProblem(api.CodeStale, "If-Match is no ETag of the configuration."))
		return by, false
	}
	by.IfVersion = version
	return by, true
}

// changeRequest is a change as a request's body asks for it.
type changeRequest struct {
	settings.Change
	note        api.ChangeNote
	mustMatch   bool   // If-Match is required
	key, member string // a key that goes by another name in the body; empty: none does
}

// change makes a change, or answers the request.
func (h *config) change(c *gin.Context, r changeRequest) bool {
	if !h.checkSales(c, r.Set) {
		return false
	}
	by, ok := h.author(c, r.note.Reason, r.mustMatch)
	if !ok {
		return false
	}
	r.By = by
	if r.note.For != "" {
		d, err := time.ParseDuration(r.note.For)
		if err != nil || d < time.Second || d > maxChange {
			api.WriteProblem(c, api.InvalidRequest(api.Field("for", "must be a duration from 1s to 720h, such as 10m")))
			return false
		}
		r.For = d
	}
	err := h.settings.Change(c.Request.Context(), r.Change)
	if invalid, ok := errors.AsType[invalid.Error](err); ok && r.key != "" {
		for i := range invalid {
			if invalid[i].Field == r.key {
				invalid[i].Field = r.member
			}
		}
	}
	if err != nil {
		h.refuse(c, err)
		return false
	}
	return true
}

func (h *config) changeConfig(c *gin.Context) {
	var body struct {
		Set   map[string]any `json:"set"`
		Unset []string       `json:"unset"`
		api.ChangeNote
	}
	if !h.read(c, &body) {
		return
	}
	change := settings.Change{Set: body.Set, Unset: body.Unset}
	if h.change(c, changeRequest{Change: change, note: body.ChangeNote, mustMatch: true}) {
		h.showConfig(c)
	}
}

// setting returns one key as it counts; the zero value for an unknown one.
func (h *config) setting(c *gin.Context, key string) settings.Setting {
	for _, k := range h.settings.Show(c.Request.Context()).Keys {
		if k.Key == key {
			return k
		}
	}
	return settings.Setting{}
}

// checkSales checks the sales for which a change sets something. It answers the request and returns false when one is
// unknown. What it takes away may be anybody's.
func (h *config) checkSales(c *gin.Context, set map[string]any) bool {
	for _, path := range slices.Sorted(maps.Keys(set)) {
		for _, key := range []string{salesLimits, heldKey} {
			sale, single := strings.CutPrefix(path, key+".")
			takesAway := set[path] == nil || fmt.Sprint(set[path]) == "false"
			if single && !takesAway && !h.checkSale(c, sale) {
				return false
			}
		}
	}
	return true
}

// noteUntil writes down under name when what counts for a time ends, and by sale under "name.SALE".
func noteUntil(ends map[string]string, name string, s settings.Setting) {
	if !s.Until.IsZero() {
		ends[name] = api.FormatTime(s.Until)
	}
	for sale, at := range s.UntilSale {
		ends[name+"."+sale] = api.FormatTime(at)
	}
}
