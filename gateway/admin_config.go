package gateway

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/internal/invalid"
	"sluice/inventory"
	"sluice/queue"
	"sluice/settings"
)

const (
	maxReason  = 200
	maxChange  = 30 * 24 * time.Hour // a change for longer is one for good
	logLevel   = "log.level"
	limitsKeys = "limits."
)

func (o *Ops) settingsRoutes(admin *gin.RouterGroup) {
	admin.GET("/config", o.showConfig)
	admin.PATCH("/config", o.changeConfig)
	admin.POST("/config/revert", o.revert(""))
	admin.GET("/config/versions", o.listVersions)
	admin.POST("/reload", o.reload)
	admin.GET("/log-level", o.showLogLevel)
	admin.PUT("/log-level", o.setLogLevel)
	admin.GET("/limits", o.showLimits)
	admin.PATCH("/limits", o.changeLimits)
	admin.POST("/limits/revert", o.revert(limitsKeys))
	admin.GET("/switches", o.showSwitches)
	admin.PUT("/switches/admission", o.switchAdmission)
	admin.PUT("/switches/drain", o.switchDrain)
}

func versionOf(v settings.Version) api.ConfigVersion {
	return api.ConfigVersion{Version: v.Version, At: api.FormatTime(v.At), Actor: v.Actor, Source: v.Source, Reason: v.Reason}
}

// etag names a version of the whole configuration: also a change of another
// key makes a condition fail, and the caller looks again.
func etag(c *gin.Context, version int64) {
	c.Header("ETag", `"`+strconv.FormatInt(version, 10)+`"`)
	c.Header("Cache-Control", "no-store")
}

func (o *Ops) showConfig(c *gin.Context) {
	view := o.Settings.Show(c.Request.Context())
	body := api.Config{ConfigVersion: versionOf(view.Version), File: view.File, Left: view.LeftOut, Keys: make([]api.Setting, len(view.Keys))}
	for i, k := range view.Keys {
		body.Keys[i] = api.Setting{Key: k.Key, Value: k.Value, Source: k.Source, Hot: k.Hot, Until: api.FormatTime(k.Until)}
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
func (o *Ops) author(c *gin.Context, reason string, mustMatch bool) (settings.Author, bool) {
	by := settings.Author{Actor: actorOf(c), Reason: reason, IfVersion: settings.AnyVersion}
	if len(reason) > maxReason || !api.Printable(reason) {
		api.WriteProblem(c, api.InvalidRequest(api.Field("reason", "must be at most 200 characters without control characters")))
		return by, false
	}
	match := c.GetHeader("If-Match")
	switch {
	case match == "" && mustMatch:
		api.WriteProblem(c, api.NewProblem(api.CodeNoCondition, "Send If-Match with the ETag this change was decided on, or * to make it whatever counts."))
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

// change makes a change, or answers the request.
func (o *Ops) change(c *gin.Context, change settings.Change, beside api.ChangeNote, mustMatch bool) bool {
	return o.changeMember(c, change, beside, mustMatch, "", "")
}

// changeMember is change for a body in which a key goes by another name.
func (o *Ops) changeMember(c *gin.Context, change settings.Change, beside api.ChangeNote, mustMatch bool, key, member string) bool {
	if !o.checkSales(c, change.Set) {
		return false
	}
	by, ok := o.author(c, beside.Reason, mustMatch)
	if !ok {
		return false
	}
	change.By = by
	if beside.For != "" {
		d, err := time.ParseDuration(beside.For)
		if err != nil || d < time.Second || d > maxChange {
			api.WriteProblem(c, api.InvalidRequest(api.Field("for", "must be a duration from 1s to 720h, such as 10m")))
			return false
		}
		change.For = d
	}
	err := o.Settings.Change(c.Request.Context(), change)
	if invalid, ok := errors.AsType[invalid.Error](err); ok && key != "" {
		for i := range invalid {
			if invalid[i].Field == key {
				invalid[i].Field = member
			}
		}
	}
	if err != nil {
		o.refuse(c, err)
		return false
	}
	return true
}

func (o *Ops) changeConfig(c *gin.Context) {
	var body struct {
		Set   map[string]any `json:"set"`
		Unset []string       `json:"unset"`
		api.ChangeNote
	}
	if o.read(c, &body) && o.change(c, settings.Change{Set: body.Set, Unset: body.Unset}, body.ChangeNote, true) {
		o.showConfig(c)
	}
}

// revert brings the keys under prefix back to an earlier version.
func (o *Ops) revert(prefix string) gin.HandlerFunc {
	return func(c *gin.Context) {
		var body struct {
			To     int64  `json:"to"` // 0: the newest that makes a difference
			Reason string `json:"reason"`
		}
		if !o.read(c, &body) {
			return
		}
		if body.To < 0 {
			api.WriteProblem(c, api.InvalidRequest(api.Field("to", "must be a version, or 0 for the newest that makes a difference")))
			return
		}
		by, ok := o.author(c, body.Reason, false)
		if !ok {
			return
		}
		if err := o.Settings.Revert(c.Request.Context(), body.To, prefix, by); err != nil {
			o.refuse(c, err)
			return
		}
		if prefix == limitsKeys {
			o.showLimits(c)
			return
		}
		o.showConfig(c)
	}
}

func (o *Ops) showLogLevel(c *gin.Context) {
	k := o.setting(c, logLevel)
	level, _ := k.Value.(string)
	c.JSON(http.StatusOK, api.LogLevel{Level: level, Until: api.FormatTime(k.Until)})
}

func (o *Ops) setLogLevel(c *gin.Context) {
	var body struct {
		Level string `json:"level"`
		api.ChangeNote
	}
	if o.read(c, &body) && o.changeMember(c, settings.Change{Set: map[string]any{logLevel: body.Level}}, body.ChangeNote, false, logLevel, "level") {
		o.showLogLevel(c)
	}
}

// setting is one key as it counts.
func (o *Ops) setting(c *gin.Context, key string) settings.Setting {
	for _, k := range o.Settings.Show(c.Request.Context()).Keys {
		if k.Key == key {
			return k
		}
	}
	return settings.Setting{}
}

// checkSales is checkSale for what a change sets for single sales. What it takes away may be anybody's.
func (o *Ops) checkSales(c *gin.Context, set map[string]any) bool {
	for _, path := range slices.Sorted(maps.Keys(set)) {
		for _, key := range []string{salesLimits, heldKey} {
			sale, single := strings.CutPrefix(path, key+".")
			takesAway := set[path] == nil || fmt.Sprint(set[path]) == "false"
			if single && !takesAway && !o.checkSale(c, sale) {
				return false
			}
		}
	}
	return true
}

// checkSale refuses a sale that does not exist, before anything is kept under its name.
func (o *Ops) checkSale(c *gin.Context, id string) bool {
	if !queue.ValidSaleID(id) {
		o.refuse(c, fmt.Errorf("%q: %w", id, inventory.ErrNoSale))
		return false
	}
	if _, _, err := o.Catalog.Get(c.Request.Context(), id); err != nil {
		o.refuse(c, err)
		return false
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
