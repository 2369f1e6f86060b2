module github.com/milepost/milepost/services/standalone

go 1.25.0

require (
	github.com/milepost/milepost/pkg v0.0.0
	github.com/milepost/milepost/services/db v0.0.0
	github.com/milepost/milepost/services/distance v0.0.0
	github.com/milepost/milepost/services/email v0.0.0
	github.com/milepost/milepost/services/web-api v0.0.0
)

replace (
	github.com/milepost/milepost/pkg => ../../pkg
	github.com/milepost/milepost/services/db => ../db
	github.com/milepost/milepost/services/distance => ../distance
	github.com/milepost/milepost/services/email => ../email
	github.com/milepost/milepost/services/web-api => ../web-api
)
