package claims

// sections are every claim of the security model, in the order of the page.
var sections = []section{
	{"Pages of other origins", []claim{
		{
			"A page whose origin isn't listed gets 403, in calls, upgrades and preflights.",
			[]string{"e2e.TestOrigins", "bridge/internal/gate.TestOrigins", "TestOriginsAreJudgedAlike"},
		},
		{
			"`https://*.example.com` doesn't match `evilexample.com`. Only a lone `*` allows every host.",
			[]string{"TestOriginPatternsThatMeanNothing", "FuzzOrigin"},
		},
		{
			"A regular expression matches only whole origins of one scheme, in linear time.",
			[]string{"TestOriginExpressions", "TestOriginExpressionTakesNoTime"},
		},
		{
			"Only the entry `null` allows the origin `null`, never with cookies.",
			[]string{"TestNullOriginByNameAlone", "TestNullIsAllowedByName"},
		},
		{
			"culvert accepts cookies and sends `access-control-allow-credentials` only for its own and exactly listed origins. Cookies reach the backend only if the configuration says so, too.",
			[]string{"TestCookiesWantAnExactOrigin", "TestCookiesPassOnlyForListedOrigins"},
		},
		{
			"A request whose cookies would reach the backend needs an `Origin`, or `Sec-Fetch-Site: same-origin`.",
			[]string{"TestOriginThatIsAbsent", "TestCookiesOfOrigins"},
		},
		{
			"culvert refuses several `Origin` fields, and an empty one.",
			[]string{"TestTwoOrigins"},
		},
		{
			"A page over HTTP isn't same-origin for an HTTPS listener.",
			[]string{"TestPagesOfThisServerOverTLS"},
		},
		{
			"If a proxy rewrites `Origin` to culvert's own name, culvert refuses the request by `Sec-Fetch-Site: cross-site`, even if `allow_origins` lists the name.",
			[]string{"TestOwnOriginThatTheBrowserDenies"},
		},
		{
			"`Vary` names what each answer depends on, also in refusals and preflights.",
			[]string{"TestVary"},
		},
		{
			"A call in a tunnel and a WebSocket's first message can't claim another origin than the upgrade had.",
			[]string{"TestTunnelOriginIsTheOutersInAll", "TestBlockMayNotSayWhatTheUpgradeSays"},
		},
		{
			"On loopback, culvert answers only if `Host` is an IP address, localhost or a name in `hosts` (DNS rebinding).",
			[]string{"TestHostsOfALoopbackListener"},
		},
		{
			"With `hosts`, a `GET` call over plaintext without `Origin` or `Sec-Fetch-Site: same-origin` needs a known host.",
			[]string{"TestGetsOverPlaintextNeedAKnownHost", "TestGetsOfForeignNames"},
		},
		{
			"On loopback, `health.listen` answers only if `Host` is an IP address or localhost.",
			[]string{"TestHealthOnLoopbackChecksHost"},
		},
		{
			"A preflight grants only headers that a call may carry.",
			[]string{"TestPreflightGrantsNoMoreThanItReads"},
		},
		{
			"Foreign pages in Chromium get no call through with a user's cookies, by WebSocket, `fetch`, beacon, form, frame or redirect. They are other sites, other origins of the same site, culvert's name over HTTP, and sandboxes.",
			[]string{"TestForeignPages", "TestPublishedClients"},
		},
		{
			"With `enforce_origins: false` or `methods.enforce: false`, what a rule would refuse is logged and passes; a page's request without cookies.",
			[]string{"e2e.TestOriginsAreTriedOut", "bridge.TestOriginsAreTriedOut", "TestMethodsAreTriedOut"},
		},
	}},
	{"Forged identities", []claim{
		{
			"On every transport, and before the web server in `fallback`, culvert removes headers of front proxies, such as `x-forwarded-*`, unless the peer is in `trusted_proxies`.",
			[]string{"TestClientsCannotVouchForThemselves", "TestWebServerGetsTheRequest"},
		},
		{
			"culvert never forwards these names with underscores or dots, nor names that begin with `culvert-` or `x-culvert-`.",
			[]string{"TestNamesThatLookVouchedFor", "TestOwnVouchedNamesAndWhatLooksLikeThem", "TestInsideATunnelTheOuterRequestSpeaks", "TestConformance/request headers that don't cross"},
		},
		{
			"culvert reads a trusted proxy's headers only from the HTTP request itself.",
			[]string{"TestTrustedProxyVouches", "TestBlockMayNotSayWhatTheUpgradeSays", "TestInsideATunnelTheOuterRequestSpeaks"},
		},
		{
			"Addresses in `proxy_protocol` must send a PROXY header. From others it is a bad request.",
			[]string{"TestPeerAddress", "TestPROXYPortWantsItsHeader", "TestPROXYHeaderOfAStrangerIsNone", "TestBehindHAProxy"},
		},
		{
			"After a PROXY header that names no client (LOCAL, UNKNOWN), forwarding headers don't count.",
			[]string{"TestPeerAddress"},
		},
		{
			"Of `X-Forwarded-For` and `Forwarded`, only the one in `trusted_header` counts.",
			[]string{"TestPeerAddress", "TestWhoCallsByForwarded", "FuzzForwardedFor", "FuzzParseForwarded", "TestBehindNginx"},
		},
		{
			"A slow, long or malformed PROXY header costs only its own connection.",
			[]string{"TestSilentPeerOfAProxyPortIsCut", "TestPROXYConnectionsAreTold", "FuzzReadProxyHeader"},
		},
		{
			"culvert takes a client's name only from a verified certificate, and forwards no client's `x-forwarded-client-cert` or `client-cert`.",
			[]string{"TestClientNames", "TestClientCertificateIsForwardedByKey"},
		},
		{
			"culvert's own `x-forwarded-client-cert` is printable, counts towards `limits.header_bytes` and is never truncated.",
			[]string{"TestClientCertificateThatNoHeaderCarries", "TestClientCertificateCountsAsMetadata"},
		},
		{
			"On a connection that needs no client certificate, a request for a name or address that needs one gets 421, in any spelling.",
			[]string{"TestMisdirectedRequests", "TestPolicyByName", "FuzzParseAuthority"},
		},
		{
			"Without SNI, the address that the client connected to selects the certificate, else the first one counts.",
			[]string{"TestPolicyByAddress", "TestPolicyGoesByTheAddressConnectedTo"},
		},
		{
			"Configuration errors: `client_ca` with `client_auth: none`; unused revocation lists; a certificate, other than the default, that nothing can select.",
			[]string{"TestDangers", "TestPairThatNoClientSelectsIsAnError"},
		},
		{
			"No hop-by-hop HTTP header and none of gRPC's own headers cross as metadata.",
			[]string{"TestConformance/hop-by-hop request headers", "TestConformance/request headers that don't cross"},
		},
		{
			"A metadata value can't start a header field or a line of its own.",
			[]string{"TestNoFieldCanBeginALineOfItsOwn"},
		},
	}},
	{"Credentials", []claim{
		{
			"culvert refuses tokens with `none`, symmetric algorithms, `crit` or keys of their own, and never fetches addresses in tokens.",
			[]string{"auth/internal/jwt.TestHostileTokens", "auth.TestHostileTokens", "TestHeaderAddressesAreNeverFetched", "TestKeyTypesOfAllAlgorithms", "TestAlgorithmsAreAsymmetric"},
		},
		{
			"A token counts only for its issuer, its audience, its type and its time, and one with `cnf` only with its certificate.",
			[]string{"TestAudiences", "TestAudienceByRoute", "TestTypesByOption", "TestDates", "TestConfirmation", "TestBoundToken", "TestIssuersAreToldApart"},
		},
		{
			"With a real OpenID provider, a new key needs no restart, a withdrawn one ends its tokens, and an outage changes nothing.",
			[]string{"TestProvider", "TestProviderRotatesItsKeys", "TestProviderIsGone", "TestRemovedKeyEndsVerdicts", "TestConnectionsLearnOfWithdrawnKeys"},
		},
		{
			"A server of keys that hangs, lies, grows or redirects costs callers a time-out at most; unknown keys cause a fetch a minute at most.",
			[]string{"TestHostileKeyServers", "TestHangingKeyServer", "auth/internal/jwk.TestHostileServers", "TestUnknownKeys", "TestWaitsAreBounded"},
		},
		{
			"An invalid credential refuses the call, although another one is valid, and although the method is public.",
			[]string{"TestVerdictsOfTwoWays", "TestVerdictsOfAllCombinations", "TestPlacesAndWays", "TestProviderBeforeUpgrades", "TestUsersBehindAWorkload"},
		},
		{
			"In a tunnel, each call has the identity of its own token, else of the connection.",
			[]string{"TestTunnelOfSeveral", "TestTwoIdentitiesOfOneConnection"},
		},
		{
			"Only a newer credential of the same identity renews that of a connection.",
			[]string{"TestRefreshOfATunnel", "TestRefreshBesideAService", "TestTokenExpiresInAStream"},
		},
		{
			"A running call ends within a second after its credential expires, also if a thousand expire at once.",
			[]string{"TestExpiryOfRunningStreams", "TestExpiryOfTheNameless", "bridge.TestThousandExpiries"},
		},
		{
			"Clients can't set metadata of the identity, of claims or of the external service, in any spelling or carrier.",
			[]string{"TestIdentityMetadata", "TestOwnNamesAreNeverTheClients", "TestProvider", "TestSessions", "TestOPA"},
		},
		{
			"A deny rule wins in any order, and another deny rule never allows more.",
			[]string{"TestOrderDecidesNothing", "TestAnotherDenyRuleNeverAllowsMore"},
		},
		{
			"A denied credential gets nobody in, whichever others the call has.",
			[]string{"TestNobodyHidesBehindAnotherCredential", "TestDeniedBesideAnother"},
		},
		{
			"Allow rules without a way to authenticate are configuration errors.",
			[]string{"TestAuthKeysThatDontGoTogether", "auth.TestMistakes"},
		},
		{
			"Cookies count only for culvert's own pages and for exactly listed origins.",
			[]string{"TestSessions", "TestTokenInACookie"},
		},
		{
			"The file of API keys has hashes alone. A mistake in it changes nothing; a deleted line revokes its key.",
			[]string{"TestAPIKeys", "TestKeysShowNoHash", "TestMistakesNameTheLine"},
		},
		{
			"Rules by SPIFFE ID compare whole parts of the path. A certificate with several URIs has no SPIFFE ID.",
			[]string{"TestRulesBySPIFFEID", "TestIdentityPatterns"},
		},
		{
			"Of a pod's tokens only those for this service count.",
			[]string{"TestServiceAccounts"},
		},
		{
			"An external service can't set reserved metadata, and chooses only among the backends of the call's route. Unusable answers refuse the call, with `fail_open` too.",
			[]string{"TestHostileCheckServices", "TestHostileHTTPServices", "TestCheckAnswersThatAreUnusable", "TestFailOpenCoversOnlySilence", "TestExternalChoosesTheBackend"},
		},
		{
			"culvert reads 100 invalid tokens of an address at once, and then 20 a second. Refusals of an external service count, too.",
			[]string{"TestWhatCountsAgainstAnAddress", "TestBadTokensBuyNoVerifications", "TestFailuresOutliveAReload", "TestKnownCredentialsAreAskedAbout"},
		},
		{
			"Caches of verdicts and of answers are bounded, and their keys are hashes.",
			[]string{"TestVerdictsAreBounded", "TestGarbagePushesNothingOut", "TestCacheIsBoundedInEntries", "TestCacheIsBoundedInBytes", "TestTriesAreBounded"},
		},
		{
			"No credential is in the log, in an error, or in a state that the admin page shows.",
			[]string{"TestSecretsStayInside", "TestProvider", "TestAPIKeys", "TestSessions", "TestSecretsDoNotFormat", "TestTokensAreNotShown", "TestTextsDontRepeatCredentials"},
		},
		{
			"A reload that changes issuers and rules leaves running calls their verdict, and judges the next call of a tunnel.",
			[]string{"TestReloadUnderRunningStreams"},
		},
	}},
	{"Listeners", []claim{
		{
			"Each listener has its own TLS, transports and trusted proxies.",
			[]string{"TestListenersTakeTheirOwn", "TestListenersTrustTheirOwn", "TestListenersTLS"},
		},
		{
			"A transport that the listener doesn't serve is refused in its own protocol, in a tunnel too.",
			[]string{"TestConformance/transports of a listener", "TestListenersTakeTheirTransports"},
		},
		{
			"A unix socket has its file mode before anybody can connect.",
			[]string{"TestSocketsAreAsPrivateAsTheirMode"},
		},
		{
			"culvert replaces a stale socket, but none that a process serves, and no other file.",
			[]string{"TestSocketsOfTheDeadAreReplaced"},
		},
		{
			"culvert binds all listener addresses, or none.",
			[]string{"TestListenersAreBoundAllOrNone"},
		},
		{
			"`culvert validate` and the start warn of plaintext on a public address, or beside listeners with TLS, unless `tls: {enabled: false}`, `trusted_proxies` or `proxy_protocol` shows that it is intended.",
			[]string{"TestDangers"},
		},
		{
			"They warn of trust in everybody or in large parts of the internet, of the origin `*`, and of detailed errors on a listener that other hosts reach.",
			[]string{"TestDangers", "TestContradictionsAndDangers"},
		},
		{
			"Colliding addresses, and TLS without a certificate, are configuration errors.",
			[]string{"TestDangers"},
		},
	}},
	{"TLS and certificates", []claim{
		{
			"culvert speaks TLS 1.2 and 1.3, with Go's cipher suites and curves.",
			[]string{"TestOldestVersion", "TestOldVersionsAreRefused"},
		},
		{
			"A new certificate doesn't touch open connections. A bad file changes nothing, is logged once and shown by `/readyz`.",
			[]string{"TestCertificateIsReplacedUnderOpenStreams", "TestBadCertificateChangesNothing"},
		},
		{
			"A truncated or damaged file of certificates or revocation lists is rejected as a whole.",
			[]string{"TestFilesThatAreCutOffAreErrors", "FuzzPEMBlocks"},
		},
		{
			"A revocation list of a CA's renewed key applies to certificates of the old key, too.",
			[]string{"TestListOfARenewedKeyCounts"},
		},
		{
			"A revocation list that no CA in `client_ca` signed, and a file with a second list, are errors.",
			[]string{"TestListOfAnUnknownKeyIsRefused", "TestListsThatProveNothingAreErrors"},
		},
		{
			"A revoked intermediate CA revokes the clients that it signed, even if it is in `client_ca`.",
			[]string{"TestAuthorityInBetweenIsRevoked"},
		},
		{
			"If a certificate is required, a client with none, another CA's or a revoked one fails the handshake, also in a resumed session.",
			[]string{"TestClientCertificates", "TestRevokedClientCertificate", "TestRevocationEndsResumption", "TestSessionIsNotResumedUnderAnotherPolicy"},
		},
		{
			"A TLS-ALPN-01 challenge needs no client certificate and opens nothing else.",
			[]string{"TestChallengeIsNoWayAroundClientCertificates"},
		},
		{
			"The development CA can sign only for its own names; other users can't read its key.",
			[]string{"TestDevelopmentAuthorityIsConstrained", "TestSelfSigned"},
		},
		{
			"The redirect to HTTPS leads only to a requested host that a certificate or `hosts` has.",
			[]string{"TestRedirectToHTTPS", "TestRedirectBehindALoadBalancer", "TestWhoIsServed", "FuzzRedirect"},
		},
	}},
	{"Methods that aren't public", []claim{
		{
			"A route's rewrite opens no denied method: rules judge the name that the backend receives.",
			[]string{"TestRewriteOpensNoDeniedMethod", "TestRoutes"},
		},
		{
			"A page may call only if the origins of the call's route allow it, also in a tunnel.",
			[]string{"TestOriginsOfARoute", "TestExplanationIsWhatHappens"},
		},
		{
			"A route can't set metadata of culvert, trusted proxies or gRPC.",
			[]string{"TestWrongRoutes"},
		},
		{
			"`methods.deny` wins over `methods.allow`. Services that expose a server's internals need `methods.allow`.",
			[]string{"TestMethodPolicy", "TestConformance/services that show the backend's inside"},
		},
		{
			"Percent-encoding, doubled slashes and dot segments get around no rule.",
			[]string{"TestParseMethod", "FuzzParseMethod", "TestPathsOfMessages"},
		},
	}},
	{"Request smuggling", []claim{
		{
			"culvert closes an HTTP/1 connection after an answer before the request's end, each refused request and each HTTP/1.0 request.",
			[]string{"TestNothingIsServedBehindARefusal", "TestConformance/nothing is smuggled behind an early answer"},
		},
		{
			"Bytes that arrive with an upgrade belong to the WebSocket.",
			[]string{"TestBytesBehindAnUpgradeAreItsOwn"},
		},
		{
			"The web server in `fallback` gets requests written anew, no upgrade but to WebSocket, no trailers, no hop-by-hop fields.",
			[]string{"TestNothingIsSmuggledToTheWebServer", "TestWebServerGetsTheRequest"},
		},
		{
			"A tunnel carries neither upgrades nor tunnels.",
			[]string{"TestNoTunnelInsideATunnel"},
		},
	}},
	{"Memory", []claim{
		{
			"A length prefix allocates nothing. From its second KiB, a message counts against `limits.buffered_bytes`.",
			[]string{"TestLengthPrefixAllocatesNothing", "TestStalledLargeMessagesStayWithinTheBudget"},
		},
		{
			"A client's bytes over HTTP/2 in an admitted call count before culvert reads them.",
			[]string{"TestUnreadBodyIsCounted", "TestQueuedRequestsCount"},
		},
		{
			"A backend's bytes count from arrival until the client has them.",
			[]string{"TestFlowsFindTheirStreams", "TestStalledReplyCountsWhatHasCome"},
		},
		{
			"A reply larger than the [window of its stream](../memory.md#one-call) comes only when there is memory for it.",
			[]string{"TestLargeRepliesStayWithinTheBudget", "TestConnectionsWindowWaitsForRoom", "TestLargeRepliesLeaveNoCreditBehind"},
		},
		{
			"While others wait for memory, culvert ends calls of the address that holds the most, if over its [share](../memory.md#when-memory-is-scarce), the longest still first.",
			[]string{"TestLargestAddressMakesRoom"},
		},
		{
			"A call that makes progress at an address within its share isn't ended.",
			[]string{"TestCallWithinItsShareIsLeftAlone"},
		},
		{
			"An address alone may use all memory. Only stalled calls end, and uploads that raise the count to an eighth above a limit.",
			[]string{"TestAddressAloneUsesEverything", "TestUnaskedBytesHaveABound"},
		},
		{
			"Freed memory goes first to addresses below their share.",
			[]string{"TestThoseWithinTheirShareGoFirst", "TestOthersWaitBehindThoseWithinTheirShare"},
		},
		{
			"At an address over its share, connections without calls end when others need memory.",
			[]string{"TestIdleConnectionsMakeRoom"},
		},
		{
			"Unread request bodies over HTTP/2 raise the count at most an eighth above the limits, except at addresses within their share.",
			[]string{"TestUnaskedBytesHaveABound", "TestUnwantedBodyIsDropped", "TestMemoryAttacks"},
		},
		{
			"Large messages may use a part of the memory, of which each address has a share.",
			[]string{"TestBulkLeavesRoom", "TestClassHasShares"},
		},
		{
			"A new call waits up to 2 s for memory; at an address over its share it is refused at once.",
			[]string{"TestNewcomers"},
		},
		{
			"However many calls there are, open streams can exchange messages.",
			[]string{"TestCallsLeaveRoomForMessages"},
		},
		{
			"Without memory, a call is refused in its own protocol, and a connection closed before its TLS handshake.",
			[]string{"TestMemoryLimit", "TestMemoryLimitOfConnections", "TestWithoutMemory"},
		},
	}},
	{"Denial of service", []claim{
		{
			"A client can't add time series to the metrics: at most 500 methods count by name, each shown by a backend.",
			[]string{"TestMethodsNobodyKnowsFold", "TestTableIsWhatPrometheusGets"},
		},
		{
			"`/metrics` answers a few callers at a time, each within a bounded time.",
			[]string{"TestScrapes"},
		},
		{
			"Malformed input costs only the sender its call or its connection, with a precise error.",
			[]string{"TestHostileBytes"},
		},
		{
			"Decompression stops at the message limit. If one address sends gzip bombs, half of the CPU stays free.",
			[]string{"TestBombIsNotExpanded", "TestConformance/gzip bomb in the request", "TestExpansionByOneAddress", "TestMessagesAtOnceShareADebt"},
		},
		{
			"A client that reads slowly holds one window and one message, until `limits.slow_consumer_timeout`.",
			[]string{"TestSlowReadersAreNotBufferedFor", "TestSlowConsumerLimit"},
		},
		{
			"A client that opens no window gets its call's status, if that is in trailers. `limits.memory` applies to what clients leave unread.",
			[]string{"TestEndsBehindAShutWindow", "TestMemoryAttacks"},
		},
		{
			"A call that nobody reads doesn't stall others on its connection.",
			[]string{"TestUnreadCallsLeaveTheirConnectionAlone"},
		},
		{
			"During each of the [attacks](attacks.md), ordinary clients are still served.",
			[]string{"e2e.TestFloods", "TestDawdlers", "TestSlowSenders", "TestBombs"},
		},
		{
			"Connections that trickle their headers end ([bound](attacks.md#any-protocol)).",
			[]string{"TestTricklersAreClosed"},
		},
		{
			"Hundreds of reset streams leave nothing behind.",
			[]string{"TestHundredsOfResetCallsLeaveNothing"},
		},
		{
			"culvert's HTTP/2 server ([0007](../../decisions/0007-own-http2-server.md)) follows the RFC, and ends the connection of a client that doesn't read its acknowledgements.",
			[]string{"TestH2Spec", "TestAnswersThatNobodyTakes", "FuzzConn"},
		},
		{
			"`limits.connections`, `limits.calls`, `limits.calls_per_connection` and `limits.handshakes_per_second` apply, and the refusal names the limit.",
			[]string{"TestConnectionLimit", "TestCallLimit", "TestCallsPerConnectionLimit", "TestHandshakeLimit"},
		},
		{
			"Metadata over `limits.header_bytes` costs only its own call.",
			[]string{"TestOversizeMetadataCostsItsOwnCall"},
		},
		{
			"culvert notices a vanished client within 45 s ([exceptions](attacks.md#any-protocol)).",
			[]string{"TestSilentClient"},
		},
		{
			"Connections end for lack of calls or for age as configured.",
			[]string{"TestConnectionAges", "TestEndsOfConnections"},
		},
		{
			"Floods of frames that advance no call end their connection, also with useful frames in between. So do streams reset as soon as they begin.",
			[]string{"bridge/internal/h2.TestFloods", "TestFloodsBesideWork", "TestStreamsForNothing", "TestFramesThatCarryNothing"},
		},
		{
			"Cancellations in ordinary use are no flood.",
			[]string{"TestCancelledStreams"},
		},
	}},
	{"Limits by scope", []claim{
		{
			"A refused call uses no quota. Limits of the address come first, then of the method, the listener and the server.",
			[]string{"TestCallsCountWhereTheyBelong", "TestRefusedCallsTakeNothing", "TestPlacesAreGivenBack", "TestAddressLimits"},
		},
		{
			"A refused call learns which limit it met and when to retry.",
			[]string{"TestConformance/over a limit", "TestRetryIsWhenThereIsRoom"},
		},
		{
			"culvert counts IPv6 clients by /64, and behind trusted proxies the client's own address.",
			[]string{"TestAddressKey", "FuzzAddressKey", "TestAddressLimits"},
		},
		{
			"Millions of addresses take bounded memory. No address whose rate is in use is forgotten.",
			[]string{"TestMillionsOfAddresses", "TestAddressesAreForgotten", "TestNobodyComesBackAnew"},
		},
		{
			"With `limits.enforce: false`, culvert logs once what it would refuse.",
			[]string{"TestLimitsAreTriedOut", "TestBodyThatIsTriedOutIsToldOfOnce"},
		},
		{
			"A reserve of file descriptors stays free for the backend, health checks and connected clients.",
			[]string{"TestConnectionsLeaveDescriptors", "TestNoDescriptorIsLeft"},
		},
	}},
	{"Backends", []claim{
		{
			"culvert doesn't forward a backend's headers that speak for the origin, such as `access-control-*`, and `set-cookie` only if the configuration says so.",
			[]string{"TestConformance/response headers that don't cross", "TestCookiesPassOnlyForListedOrigins"},
		},
		{
			"A response that breaks off before its trailers never becomes a success.",
			[]string{"TestCutBackendIsNeverOK", "TestConformance/backend ends without trailers", "TestPublicConformance"},
		},
		{
			"The log attributes a backend's status that claims to come from culvert to the backend.",
			[]string{"TestConformance/a status that claims to be culvert's"},
		},
	}},
	{"Reload", []claim{
		{
			"A configuration file that is wrong or empty, or changes a key which needs a restart, changes nothing.",
			[]string{"TestReloadChangesAllOrNothing", "TestReloadRefusesFiles", "TestReloadKeepsWhatAnEmptyFileWouldDrop"},
		},
		{
			"If a new version of `backend.descriptors` can't be used, the one before stays. A change ends no call or connection.",
			[]string{"TestDescriptorFileThatGoesBad", "TestDescriptorsFromAFile"},
		},
		{
			"culvert doesn't apply a file that changes while culvert reads it.",
			[]string{"TestFileThatChangesWhileItIsRead"},
		},
		{
			"A file that newly requires client certificates needs a restart.",
			[]string{"TestReloadKeepsTheRulesForClients", "TestKeysThatNeedARestart"},
		},
	}},
	{"Logs and errors", []claim{
		{
			"No token, cookie, key, metadata value or query string appears in the log, at any level, or in culvert's statuses.",
			[]string{"TestSecretsStayOutOfTheLog"},
		},
		{
			"Answers of a CA or DNS provider are logged without the secrets of `tls.acme`, also in a URL, in JSON and in base64.",
			[]string{"TestSecretsAreRedactedInEveryForm", "TestACMEByDNS", "FuzzRedact"},
		},
		{
			"No address and no dial error reaches a client, unless `errors` is `detailed`.",
			[]string{"TestInsideStaysInside"},
		},
		{
			"Text from a client or backend can neither control a terminal nor start a log line.",
			[]string{"TestHostileTextIsEscapedOnATerminal", "TestHostilePageIsEscapedOnATerminal"},
		},
	}},
	{"Container image", []claim{
		{
			"The image holds one static program and the usual CA certificates, has no shell, and doesn't run as root.",
			[]string{"TestImage"},
		},
	}},
	{"File permissions", []claim{
		{
			"`culvert validate` and the start warn of files that others can change or, for secrets, read, and of folders on the path and `tls.acme.storage`.",
			[]string{"TestExposedKeysAreToldOf", "TestKeysThatOthersCanGetAt", "TestFilesThatDecideWhoMayEnter", "TestFoldersOnTheWay", "TestStorageThatOthersCanGetAt"},
		},
		{
			"These warnings consider symbolic links, sticky folders, group permissions and a pod's volumes.",
			[]string{"TestLinksOnTheWay", "TestStrangersFileInAStickyFolder", "TestGroupsThatCanWrite", "TestVolumesOfAPod"},
		},
	}},
	{"The operators' door", []claim{
		{
			"The admin address must be on loopback, or a unix socket that only culvert's user can connect to, or have TLS, a list of names and a token.",
			[]string{"TestContradictionsAndDangers"},
		},
		{
			"The same applies to a supervisor's socket for the admin address.",
			[]string{"TestAdminTakesNoSocketOfOthers"},
		},
		{
			"The admin address answers only if `Host` is localhost, a loopback address or a name in `admin.hosts`, and no page of another origin. Changes need the header `Culvert-Admin`.",
			[]string{"TestAdminAddressIsForOperators"},
		},
		{
			"The admin address answers nobody without its token, if it has one: not in a query, a cookie or another scheme, not a part of it, not two.",
			[]string{"TestOnlyTheTokenOpensTheDoor", "TestTokenAlsoOnLoopback", "FuzzAccess", "TestAdminAccess"},
		},
		{
			"Another site's page can't use, begin or end a session of the admin address, nor show the form in a frame.",
			[]string{"TestForm", "TestFormRefusesOtherPages", "TestAdminForm"},
		},
		{
			"A copied cookie is worth nothing after a logout, a new token or 12 hours.",
			[]string{"TestSessionsEnd", "TestAdminAccess"},
		},
		{
			"Of 10,000 guesses of an address, culvert judges 10, and the memory for guessers is bounded.",
			[]string{"TestGuesses", "TestTriesAreBounded"},
		},
		{
			"A caller without the token holds its connection for seconds, whatever it sends.",
			[]string{"TestServerWaitsForNobody", "TestServerSpeaksOnlyTLS"},
		},
		{
			"The admin token is in no log, error or answer, and not in `/config`.",
			[]string{"TestOnlyTheTokenOpensTheDoor", "TestTokenFilesThatAreWrong", "TestTokensHaveARightForm", "TestAdminAccess"},
		},
	}},
	{"Go's HTTP/2 server", []claim{
		{
			"With `http2_server: standard`, every transport passes the same scenarios, except one about connection age.",
			[]string{"TestStandardHTTP2", "TestStandardHTTP2Server", "TestConformance"},
		},
		{
			"With it, old connections end, listeners keep their stream limits, and the log has no detailed reason.",
			[]string{"TestStandardHTTP2EndsOldConnections", "TestStandardHTTP2KeepsAListenersStreams", "TestStandardHTTP2TellsNoEnd"},
		},
	}},
}
